//! Codes and signatures against Project Wycheproof's vectors, where a copy of them lies beside
//! the repository; otherwise it says that it skips.

use std::fs;
use std::path::Path;

use hookgate::gate::scheme::algorithm::{Algorithm, Encoding};
use hookgate::gate::scheme::public_key::PublicKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Suite<G> {
    test_groups: Vec<G>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MacGroup {
    /// In bits. Truncated tags are not our business.
    tag_size: usize,
    tests: Vec<MacCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MacCase {
    tc_id: u32,
    comment: String,
    key: String,
    msg: String,
    tag: String,
    result: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureGroup {
    /// The `SubjectPublicKeyInfo`, as a secret file holds it.
    public_key_der: String,
    tests: Vec<SignatureCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureCase {
    tc_id: u32,
    comment: String,
    msg: String,
    sig: String,
    result: String,
}

#[test]
fn hmac_sha1_is_hmac_sha1() {
    agrees(Algorithm::HmacSha1, "hmac_sha1_test.json");
}

#[test]
fn hmac_sha256_is_hmac_sha256() {
    agrees(Algorithm::HmacSha256, "hmac_sha256_test.json");
}

#[test]
fn hmac_sha384_is_hmac_sha384() {
    agrees(Algorithm::HmacSha384, "hmac_sha384_test.json");
}

#[test]
fn hmac_sha512_is_hmac_sha512() {
    agrees(Algorithm::HmacSha512, "hmac_sha512_test.json");
}

#[test]
fn ed25519_is_ed25519() {
    verifies(Algorithm::Ed25519, "ed25519_test.json");
}

#[test]
fn ecdsa_is_ecdsa() {
    verifies(Algorithm::EcdsaP256Sha256, "ecdsa_secp256r1_sha256_test.json");
}

#[test]
fn rsa_is_rsa() {
    verifies(Algorithm::RsaSha256, "rsa_signature_2048_sha256_test.json");
}

/// What is merely `acceptable` (an RSA signature whose digest lacks a parameter) is refused.
fn verifies(algorithm: Algorithm, file: &str) {
    let Some(suite) = suite::<SignatureGroup>(file) else { return };
    let mut judged = 0;
    for group in &suite.test_groups {
        let key = PublicKey::new(algorithm, &bytes(&group.public_key_der)).expect("a key of its kind");
        for case in &group.tests {
            // An empty signature is no tag at all: it never reaches a key.
            let presented = Encoding::Hex.decode(case.sig.as_bytes(), algorithm);
            let accepted = presented.is_some_and(|tag| key.verifies(&bytes(&case.msg), &tag));
            assert_eq!(accepted, case.result == "valid", "{file}: {} {}", case.tc_id, case.comment);
            judged += 1;
        }
    }
    assert!(judged > 0, "{file} is empty");
    println!("{file}: {judged} cases");
}

fn suite<G: DeserializeOwned>(file: &str) -> Option<Suite<G>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wycheproof").join(file);
    let Ok(text) = fs::read_to_string(path) else {
        eprintln!("skipped: there is no ../shared/wycheproof/{file}");
        return None;
    };
    Some(serde_json::from_str(&text).expect("a suite of the schema"))
}

fn agrees(algorithm: Algorithm, file: &str) {
    let Some(suite) = suite::<MacGroup>(file) else { return };
    let full = suite
        .test_groups
        .iter()
        .filter(|group| group.tag_size == algorithm.tag_len().expect("a fixed length") * 8);
    let mut judged = 0;
    for case in full.flat_map(|group| &group.tests) {
        let valid = case.result == "valid";
        assert_eq!(case.is_accepted_by(algorithm), valid, "{file}: {} {}", case.tc_id, case.comment);
        judged += 1;
    }
    assert!(judged > 0, "{file} holds no tag of full length");
    println!("{file}: {judged} cases");
}

impl MacCase {
    fn is_accepted_by(&self, algorithm: Algorithm) -> bool {
        let mut mac = algorithm.keyed(&bytes(&self.key)).expect("a shared key");
        mac.update(&bytes(&self.msg));
        let presented = Encoding::Hex.decode(self.tag.as_bytes(), algorithm);
        presented.is_some_and(|tag| tag.as_bytes() == mac.finish().as_bytes())
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")
}

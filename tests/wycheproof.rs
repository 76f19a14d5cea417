//! The message authentication codes against Project Wycheproof's vectors, where a copy of
//! them lies beside the repository; otherwise it says that it skips.

use std::fs;
use std::path::Path;

use hookgate::gate::scheme::algorithm::{Algorithm, Encoding};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Suite {
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// In bits. Truncated tags are not our business.
    tag_size: usize,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u32,
    comment: String,
    key: String,
    msg: String,
    tag: String,
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

fn agrees(algorithm: Algorithm, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wycheproof").join(file);
    let Ok(text) = fs::read_to_string(path) else {
        eprintln!("skipped: there is no ../shared/wycheproof/{file}");
        return;
    };
    let suite: Suite = serde_json::from_str(&text).expect("a suite of the MacTest schema");
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

impl Case {
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

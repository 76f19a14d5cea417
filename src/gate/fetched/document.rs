//! What is found where keys are published: a JSON Web Key Set (RFC 7517), a list of a provider's own,
//! one key, or a certificate. What is no key of a kind that is known is passed over; what holds no key
//! at all is no such document.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::Value;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey as Parsed, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::certificate::{self, Facts};
use crate::gate::scheme::algorithm::Algorithm;
use crate::gate::scheme::key;
use crate::gate::scheme::public_key::PublicKey;

/// The keys of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub keys: Vec<PublishedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// What it is called there, if it has a name.
    pub id: Option<Arc<str>>,
    pub material: Material,
    /// Of the certificate that holds it.
    pub certificate: Option<Facts>,
}

/// A public key of a kind that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    kind: Kind,
    /// The bare key: a point, 32 bytes, or PKCS #1.
    bytes: Vec<u8>,
    /// The algorithm that it is for, if its set says so.
    algorithm: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ed25519,
    P256,
    P521,
    /// Of at least 2048 bits: shorter ones are no keys any more.
    Rsa,
}

/// How a document is read that is no key set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Where the keys stand in it; `/keys` of a key set if absent.
    pub at: Option<String>,
    /// The member that names a key; `kid` if absent.
    pub id: Option<String>,
    /// The member that holds a key.
    pub key: Option<String>,
}

/// More are never tried: a set that holds more is cut.
const MAX_KEYS: usize = 100;

impl Document {
    /// `None` if there is no key in it.
    pub fn read(text: &[u8], form: &Form) -> Option<Self> {
        let mut keys = match text.trim_ascii() {
            text if text.starts_with(b"-----BEGIN CERTIFICATE-----") => vec![of_certificates(text)?],
            text if text.starts_with(b"-----BEGIN") => vec![of_text(None, std::str::from_utf8(text).ok()?)?],
            text => of_json(&serde_json::from_slice(text).ok()?, form)?,
        };
        keys.truncate(MAX_KEYS);
        (!keys.is_empty()).then_some(Document { keys })
    }

    /// Those that a delivery may mean: of that name, or all if it names none.
    pub fn named<'d>(&'d self, id: Option<&'d str>) -> impl Iterator<Item = &'d PublishedKey> {
        self.keys
            .iter()
            .filter(move |key| id.is_none_or(|id| key.id.as_deref().is_none_or(|known| known == id)))
    }
}

/// The leaf comes first, its issuers are behind it.
fn of_certificates(text: &[u8]) -> Option<PublishedKey> {
    let (material, facts) = certificate::read(certificate::blocks(text).ok()?.first()?).ok()?;
    Some(PublishedKey { id: None, material, certificate: Some(facts) })
}

fn of_json(document: &Value, form: &Form) -> Option<Vec<PublishedKey>> {
    let place = match &form.at {
        Some(at) => document.pointer(at)?,
        None => document.get("keys").unwrap_or(document),
    };
    Some(match place {
        Value::Array(list) => list.iter().filter_map(|one| of_object(one, form)).collect(),
        Value::String(text) => of_text(None, text).into_iter().collect(),
        Value::Object(map)
            if map.contains_key("kty") || form.key.as_ref().is_some_and(|key| map.contains_key(key)) =>
        {
            of_object(place, form).into_iter().collect()
        }
        // Google's older form: a name, and the certificate under it.
        Value::Object(map) => map.iter().filter_map(|(id, text)| of_text(Some(id), text.as_str()?)).collect(),
        _ => return None,
    })
}

fn of_object(object: &Value, form: &Form) -> Option<PublishedKey> {
    let id = match object.get(form.id.as_deref().unwrap_or("kid")) {
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    // A key that has ended says so here.
    if object.get("expired_at").is_some_and(|end| !end.is_null()) {
        return None;
    }
    match &form.key {
        Some(key) => of_text(id.as_deref(), object.get(key)?.as_str()?),
        None => {
            let material = Material::of_jwk(object)?;
            Some(PublishedKey { id: id.map(Into::into), material, certificate: None })
        }
    }
}

/// A certificate or a key, in PEM or its base64 alone.
fn of_text(id: Option<&str>, text: &str) -> Option<PublishedKey> {
    let id = id.map(Into::into);
    if text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
        return of_certificates(text.as_bytes()).map(|key| PublishedKey { id, ..key });
    }
    let material = Material::of_spki(&key::spki(text.as_bytes())?)?;
    Some(PublishedKey { id, material, certificate: None })
}

impl Material {
    /// From a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7).
    pub fn of_spki(der: &[u8]) -> Option<Self> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(der) else { return None };
        let bytes = info.subject_public_key.data.to_vec();
        let curve = || info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let kind = match info.parsed() {
            Ok(Parsed::RSA(_)) => return Material::of_rsa(bytes),
            Ok(Parsed::EC(_)) => match &*curve()?.to_id_string() {
                "1.2.840.10045.3.1.7" => Kind::P256,
                "1.3.132.0.35" => Kind::P521,
                _ => return None,
            },
            _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => Kind::Ed25519,
            _ => return None,
        };
        Material::checked(kind, bytes)
    }

    /// PKCS #1, of a length that is taken.
    fn of_rsa(bytes: Vec<u8>) -> Option<Self> {
        let Ok((rest, key)) = RSAPublicKey::from_der(&bytes) else { return None };
        (rest.is_empty() && key.key_size() >= 2048).then_some(())?;
        Material::checked(Kind::Rsa, bytes)
    }

    /// A key for signatures from a set; a private or a shared one has no place in a public list.
    fn of_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let number = |name: &str| BASE64URL_NOPAD.decode(text(name)?.trim_end_matches('=').as_bytes()).ok();
        let said = |name: &str| jwk.get(name).filter(|value| !value.is_null());
        let for_signatures = said("use").is_none_or(|purpose| purpose == "sig");
        let to_verify = said("key_ops").is_none_or(|ops| {
            ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")) // a list, or it cannot be read
        });
        if !for_signatures || !to_verify || jwk.get("d").is_some() || jwk.get("k").is_some() {
            return None;
        }
        let algorithm = match said("alg") {
            Some(name) => Some(name.as_str()?.into()),
            None => None,
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::of_rsa(pkcs1(&number("n")?, &number("e")?)),
            ("EC", Some("P-256")) => Material::of_point(Kind::P256, 32, &number("x")?, &number("y")?),
            ("EC", Some("P-521")) => Material::of_point(Kind::P521, 66, &number("x")?, &number("y")?),
            ("OKP", Some("Ed25519")) => Material::checked(Kind::Ed25519, number("x")?),
            _ => None,
        };
        Some(Material { algorithm, ..material? })
    }

    /// Some leave out the zeros before a coordinate, which RFC 7518, section 6.2.1.2, demands.
    fn of_point(kind: Kind, len: usize, x: &[u8], y: &[u8]) -> Option<Self> {
        let mut bytes = vec![4];
        for number in [x, y] {
            bytes.resize(bytes.len() + len.checked_sub(number.len())?, 0);
            bytes.extend_from_slice(number);
        }
        Material::checked(kind, bytes)
    }

    /// A key for any algorithm of its kind, if it is one: a point on its curve, or 32 bytes.
    fn checked(kind: Kind, bytes: Vec<u8>) -> Option<Self> {
        let is_key = match kind {
            Kind::Ed25519 => bytes.len() == 32,
            Kind::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(&bytes).is_ok(),
            Kind::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(&bytes).is_ok(),
            Kind::Rsa => true,
        };
        is_key.then_some(Material { kind, bytes, algorithm: None })
    }

    /// The key as the algorithm needs it; `None` if it is of another family, or for another algorithm. The
    /// algorithm is never taken from a delivery or from the key.
    pub fn verifier(&self, algorithm: Algorithm) -> Option<PublicKey> {
        if self.algorithm.as_ref().is_some_and(|name| !algorithm.is_called(name)) {
            return None;
        }
        let kind = match algorithm {
            Algorithm::Ed25519 => Kind::Ed25519,
            Algorithm::EcdsaP256Sha1 | Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP256Sha256Fixed => {
                Kind::P256
            }
            Algorithm::EcdsaP521Sha512 => Kind::P521,
            Algorithm::RsaSha1 | Algorithm::RsaSha256 | Algorithm::RsaSha512 => Kind::Rsa,
            _ => return None,
        };
        (kind == self.kind).then(|| PublicKey::new(algorithm, &self.bytes).ok()).flatten()
    }

    /// Of which family it is, for people.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Ed25519 => "Ed25519",
            Kind::P256 => "P-256",
            Kind::P521 => "P-521",
            Kind::Rsa => "RSA",
        }
    }

    /// What tells it from other keys, for people: the beginning of its SHA-256.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        data_encoding::HEXLOWER.encode(&Sha256::digest(&self.bytes)[..8])
    }
}

/// `RSAPublicKey` (RFC 8017, appendix A.1.1) of two numbers.
fn pkcs1(n: &[u8], e: &[u8]) -> Vec<u8> {
    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let length = content.len().to_be_bytes();
        let length = &length[content.len().leading_zeros() as usize / 8..];
        match content.len() {
            short @ 0..128 => out.push(u8::try_from(short).unwrap_or_default()),
            _ => {
                out.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
                out.extend_from_slice(length);
            }
        }
        out.extend_from_slice(content);
        out
    }
    let integer = |number: &[u8]| {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        let mut positive = number[start..].to_vec();
        if positive.first().is_none_or(|first| *first >= 0x80) {
            positive.insert(0, 0);
        }
        tagged(2, &positive)
    };
    tagged(0x30, &[integer(n), integer(e)].concat())
}

/// A list of certificates in a token's header: base64 with padding (RFC 7515, section 4.1.6).
pub fn chain(list: &[String]) -> Option<Vec<Vec<u8>>> {
    list.iter().map(|one| BASE64.decode(one.as_bytes()).ok()).collect()
}

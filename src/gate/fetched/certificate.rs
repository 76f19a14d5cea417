//! What is asked of a certificate that holds a key: whose it is, when it is good, and for a chain in a
//! token, that it leads to a root that is pinned.

use data_encoding::BASE64;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer, GeneralName, KeyUsage, X509Certificate};

use super::document::Material;
use crate::gate::parse::Unreadable;

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its dNSNames, in lower case.
    pub names: Vec<String>,
    /// Milliseconds since the epoch.
    pub not_before_ms: i64,
    pub not_after_ms: i64,
}

impl Facts {
    pub fn is_good(&self, now_ms: i64) -> bool {
        (self.not_before_ms..=self.not_after_ms).contains(&now_ms)
    }

    /// Whether it was given to this very name; no wildcard counts.
    pub fn is_of(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// The certificates of a text that is nothing but PEM blocks (RFC 7468, section 5), the leaf first.
pub fn blocks(text: &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut rest = std::str::from_utf8(text).map_err(|_| Unreadable)?.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (inner, behind) =
            rest.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END)).ok_or(Unreadable)?;
        let base64: String = inner.split_ascii_whitespace().collect();
        found.push(BASE64.decode(base64.as_bytes()).map_err(|_| Unreadable)?);
        rest = behind.trim_start();
    }
    if found.is_empty() { Err(Unreadable) } else { Ok(found) }
}

/// The key and the facts of a certificate in DER.
pub fn read(der: &[u8]) -> Result<(Material, Facts), Unreadable> {
    let certificate = parse(der)?;
    let material = Material::of_spki(certificate.public_key().raw).ok_or(Unreadable)?;
    Ok((material, facts(&certificate)?))
}

/// A certificate of which everything that matters is known.
fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unreadable> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if is_understood(&certificate) => Ok(certificate),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

/// A certificate that says of something that it matters is not to be used by whoever does not know it (RFC 5280,
/// section 4.2). Known are what the key and the names are for, and the policies.
fn is_understood(certificate: &X509Certificate<'_>) -> bool {
    const KEY_USAGE: &str = "2.5.29.15";
    const SUBJECT_ALTERNATIVE_NAME: &str = "2.5.29.17";
    const BASIC_CONSTRAINTS: &str = "2.5.29.19";
    const POLICIES: &str = "2.5.29.32";
    const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
    let known = [KEY_USAGE, SUBJECT_ALTERNATIVE_NAME, BASIC_CONSTRAINTS, POLICIES, EXTENDED_KEY_USAGE];
    let mut extensions = certificate.extensions().iter();
    extensions.all(|extension| !extension.critical || known.contains(&extension.oid.to_id_string().as_str()))
}

/// What a certificate's key is for. What cannot be read of it is not absent.
struct Uses {
    is_authority: bool,
    usage: Option<KeyUsage>,
}

impl Uses {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, Unreadable> {
        let basic = certificate.basic_constraints().map_err(|_| Unreadable)?;
        let usage = certificate.key_usage().map_err(|_| Unreadable)?;
        Ok(Uses {
            is_authority: basic.is_some_and(|basic| basic.value.ca),
            usage: usage.map(|usage| *usage.value),
        })
    }

    fn may_certify(&self) -> bool {
        self.is_authority && self.usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    fn may_sign(&self) -> bool {
        !self.is_authority && self.usage.as_ref().is_none_or(KeyUsage::digital_signature)
    }
}

fn facts(certificate: &X509Certificate<'_>) -> Result<Facts, Unreadable> {
    let names = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let validity = certificate.validity();
    Ok(Facts {
        names: dns.collect(),
        not_before_ms: validity.not_before.timestamp().saturating_mul(1000),
        not_after_ms: validity.not_after.timestamp().saturating_mul(1000),
    })
}

/// What a chain of three in a token must show: Apple's rules are of this form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRule {
    /// The roots that are believed, in DER. The one in the token is not.
    pub roots: Vec<Vec<u8>>,
    /// An extension that the leaf must carry, and one that its issuer must: object identifiers.
    pub leaf: String,
    pub issuer: String,
}

/// The key of the leaf, if the chain holds at that time.
pub fn of_chain(chain: &[Vec<u8>], rule: &ChainRule, at_ms: i64) -> Result<Material, Unreadable> {
    let [leaf, issuer, _root] = chain else { return Err(Unreadable) };
    let (leaf, issuer) = (parse(leaf)?, parse(issuer)?);
    for (certificate, mark) in [(&leaf, &rule.leaf), (&issuer, &rule.issuer)] {
        let carries = certificate.extensions().iter().any(|extension| extension.oid.to_id_string() == *mark);
        if !carries || !facts(certificate)?.is_good(at_ms) {
            return Err(Unreadable);
        }
    }
    if !Uses::of(&leaf)?.may_sign() || !Uses::of(&issuer)?.may_certify() {
        return Err(Unreadable);
    }
    if leaf.issuer() != issuer.subject() || !is_signed_by(&leaf, &issuer) {
        return Err(Unreadable);
    }
    let rooted = rule.roots.iter().filter_map(|root| parse(root).ok()).any(|root| {
        let good = facts(&root).is_ok_and(|facts| facts.is_good(at_ms));
        let may_certify = Uses::of(&root).is_ok_and(|uses| uses.may_certify());
        good && may_certify && issuer.issuer() == root.subject() && is_signed_by(&issuer, &root)
    });
    if !rooted {
        return Err(Unreadable);
    }
    Material::of_spki(leaf.public_key().raw).ok_or(Unreadable)
}

fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    const SHA256: &str = "1.2.840.10045.4.3.2";
    const SHA384: &str = "1.2.840.10045.4.3.3";
    const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
    const RSA_SHA384: &str = "1.2.840.113549.1.1.12";
    let key = issuer.public_key().subject_public_key.data.as_ref();
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let algorithm: &'static dyn VerificationAlgorithm = match (&*algorithm, key.len()) {
        (SHA256, 65) => &signature::ECDSA_P256_SHA256_ASN1,
        (SHA384, 65) => &signature::ECDSA_P256_SHA384_ASN1,
        (SHA256, 97) => &signature::ECDSA_P384_SHA256_ASN1,
        (SHA384, 97) => &signature::ECDSA_P384_SHA384_ASN1,
        (RSA_SHA256, _) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (RSA_SHA384, _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        _ => return false,
    };
    // What is signed names its algorithm as well: both must say the same (RFC 5280, section 4.1.1.2).
    certificate.signature_algorithm == certificate.tbs_certificate.signature
        && UnparsedPublicKey::new(algorithm, key)
            .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
            .is_ok()
}

//! Signatures that only the provider can make: the gate holds its public key.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha1::{Digest, Sha1};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::{Algorithm, Tag};
use super::key::KeyError;

/// A public key of the right kind for its algorithm.
#[derive(Clone)]
pub enum PublicKey {
    Ring(UnparsedPublicKey<Vec<u8>>),
    /// With SHA-1, which ring does not have.
    P256Sha1(Box<p256::ecdsa::VerifyingKey>),
    P521(Box<p521::ecdsa::VerifyingKey>),
}

impl PublicKey {
    /// `key` is the bare key (32 bytes for Ed25519, a point for ECDSA) or a
    /// `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7) in DER.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let key = match SubjectPublicKeyInfo::from_der(key) {
            Ok(([], info)) => info.subject_public_key.data.into_owned(),
            Ok(_) | Err(_) => key.to_vec(),
        };
        let ring = |algorithm: &'static dyn VerificationAlgorithm, fits: bool| {
            if fits {
                Ok(PublicKey::Ring(UnparsedPublicKey::new(algorithm, key.clone())))
            } else {
                Err(KeyError::NotPublic)
            }
        };
        let is_rsa =
            || x509_parser::public_key::RSAPublicKey::from_der(&key).is_ok_and(|(rest, _)| rest.is_empty());
        let is_p256 = key.len() == 65 && key[0] == 4;
        match algorithm {
            Algorithm::Ed25519 => ring(&signature::ED25519, key.len() == 32),
            Algorithm::EcdsaP256Sha1 => p256::ecdsa::VerifyingKey::from_sec1_bytes(&key)
                .map(|key| PublicKey::P256Sha1(Box::new(key)))
                .map_err(|_| KeyError::NotPublic),
            Algorithm::EcdsaP256Sha256 => ring(&signature::ECDSA_P256_SHA256_ASN1, is_p256),
            Algorithm::EcdsaP256Sha256Fixed => ring(&signature::ECDSA_P256_SHA256_FIXED, is_p256),
            Algorithm::EcdsaP521Sha512 => p521::ecdsa::VerifyingKey::from_sec1_bytes(&key)
                .map(|key| PublicKey::P521(Box::new(key)))
                .map_err(|_| KeyError::NotPublic),
            Algorithm::RsaSha1 => ring(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, is_rsa()),
            Algorithm::RsaSha256 => ring(&signature::RSA_PKCS1_2048_8192_SHA256, is_rsa()),
            Algorithm::RsaSha512 => ring(&signature::RSA_PKCS1_2048_8192_SHA512, is_rsa()),
            _ => Err(KeyError::NotPublic),
        }
    }

    pub fn verifies(&self, message: &[u8], signature: &Tag) -> bool {
        match self {
            PublicKey::Ring(key) => key.verify(message, signature.as_bytes()).is_ok(),
            PublicKey::P256Sha1(key) => {
                use p256::ecdsa::signature::hazmat::PrehashVerifier;
                let digest = Sha1::digest(message);
                p256::ecdsa::Signature::from_der(signature.as_bytes())
                    .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
            }
            PublicKey::P521(key) => {
                use p521::ecdsa::signature::Verifier;
                p521::ecdsa::Signature::from_slice(signature.as_bytes())
                    .is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

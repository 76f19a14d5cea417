//! What an operator is told of keys: where they are from, how old they are, what comes next; never a key.

use serde::{Deserialize, Serialize};

use crate::clock::to_rfc3339;
use crate::config::provider::NamedSecret;
use crate::gate::fetched::document::PublishedKey;

/// The keys of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKeys {
    pub route: String,
    pub provider: String,
    #[serde(flatten)]
    pub from: Whence,
}

/// Where they are from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keys", rename_all = "snake_case")]
pub enum Whence {
    /// They are the route's own.
    Files { files: Vec<Named> },
    /// Their provider publishes them.
    Published { addresses: Vec<String>, documents: Vec<Document> },
    /// They are each tenant's.
    Tenants {
        place: String,
        /// Whether it answers.
        up: bool,
        remembered: usize,
        /// The one that was asked for, if it is remembered.
        tenant: Option<Tenant>,
    },
}

/// A key by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub fingerprint: String,
    pub not_after: Option<String>,
}

/// What lies at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub url: String,
    /// Nothing if it has never come.
    pub age_seconds: Option<u64>,
    pub next_fetch_seconds: u64,
    /// For how long it serves if it cannot be fetched again.
    pub serves_seconds: u64,
    /// Why it cannot be had now.
    pub fault: Option<String>,
    pub keys: Vec<Published>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// As it is called there, if it is.
    pub id: Option<String>,
    pub kind: String,
    pub fingerprint: String,
    /// Of its certificate.
    pub not_after: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub name: String,
    pub exists: bool,
    pub age_seconds: u64,
    pub keys: Vec<Named>,
}

/// What is told of a key that is published.
pub fn published(key: &PublishedKey) -> Published {
    Published {
        id: key.id.as_deref().map(str::to_owned),
        kind: key.material.kind().to_owned(),
        fingerprint: key.material.fingerprint(),
        not_after: key.certificate.as_ref().map(|facts| to_rfc3339(facts.not_after_ms)),
    }
}

/// What is told of secrets.
pub fn named(secrets: &[NamedSecret]) -> Vec<Named> {
    let one = |secret: &NamedSecret| Named {
        id: secret.id.to_string(),
        fingerprint: secret.secret.fingerprint(),
        not_after: secret.not_after_ms.map(to_rfc3339),
    };
    secrets.iter().map(one).collect()
}

//! Deliveries for tests of the pure core: signed, changed and judged without a socket or a clock.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use hookgate::clock::Now;
use hookgate::config::scheme::compile;
use hookgate::gate::delivery::{Client, Head, Headers};
use hookgate::gate::filter::freshness::{self, Fresh};
use hookgate::gate::filter::signature::{Authentic, Scheme, Signature};
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::algorithm::KeyedMac;
use hookgate::gate::scheme::sign::{Signed, Unsigned};
use hookgate::gate::scheme::{Key, Recipe, Verifier};
use http::{HeaderMap, Method};

/// When these tests happen, in seconds since the epoch.
pub const NOW: i64 = 1_700_000_000;

/// The result of something that does not wait, such as the embedded store.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("this waits for nothing"),
    }
}

/// Everything that a [`Head`] borrows, and the body, open to change.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub client: Client,
    pub secure: bool,
    pub content_length: Option<u64>,
    pub body: Vec<u8>,
}

impl Delivery {
    /// Nothing but its signature can be wrong with it.
    pub fn new(headers: HeaderMap, body: &[u8]) -> Self {
        Delivery {
            method: Method::POST,
            path: "/".to_owned(),
            query: None,
            headers,
            client: Client::Known(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            secure: true,
            content_length: None,
            body: body.to_vec(),
        }
    }

    /// As a sender sends it.
    pub fn sent(signed: Signed) -> Self {
        Delivery { query: signed.query, ..Delivery::new(signed.headers, &signed.body) }
    }

    pub fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(str::as_bytes),
            headers: Headers::Made(&self.headers),
            client: self.client,
            counted_as: self.client,
            tenant: None,
            secure: self.secure,
            content_length: self.content_length,
        }
    }

    /// What a signature check makes of it.
    pub fn judged_by(&self, signature: &Signature) -> Result<Authentic, Reason> {
        self.judged_on("route", signature)
    }

    pub fn judged_on(&self, route: &str, signature: &Signature) -> Result<Authentic, Reason> {
        let head = self.head();
        let presented = signature.presented(&head)?;
        signature.verify(&presented, route, &head, &self.body, |_| true)
    }
}

/// A scheme in the words of the configuration file.
pub fn recipe(yaml: &str) -> Recipe {
    let raw = serde_saphyr::from_str(yaml).expect("the words of a scheme");
    compile(&raw, None, None).expect("a scheme that proves something")
}

/// A check of one recipe with these keys; a key's id is its place.
pub fn signature(recipe: &Recipe, keys: &[&[u8]]) -> Signature {
    let keyed = |(n, key): (usize, &&[u8])| Key {
        id: n.to_string().into(),
        verifier: Verifier::new(recipe.algorithm, key).expect("a key that fits"),
    };
    Signature::new(vec![Scheme::new(recipe.clone(), keys.iter().enumerate().map(keyed).collect())])
}

/// A provider and the gate that shares its secret.
pub struct Provider {
    recipe: Recipe,
    key: KeyedMac,
    pub signature: Signature,
}

impl Provider {
    pub fn new(scheme: &str) -> Self {
        const SECRET: &[u8] = b"sixteen bytes or more";
        let recipe = recipe(scheme);
        let key = recipe.algorithm.keyed(SECRET).expect("a shared key");
        Provider { signature: signature(&recipe, &[SECRET]), key, recipe }
    }

    /// Signs the time, so a replay is stale one day.
    pub fn timed() -> Self {
        Provider::new(
            "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex },
               content: '{header:x-id}.{header:x-time}.{body}', id: 'header:x-id',
               timestamp: { from: 'header:x-time', unit: s, tolerance: 5m, future_tolerance: 5m } }",
        )
    }

    /// A delivery that was signed [`NOW`].
    pub fn delivery(&self, id: &str, body: &[u8]) -> Delivery {
        let unsigned = Unsigned { id, time_ms: NOW * 1000, body };
        Delivery::sent(self.recipe.sign(&self.key, unsigned).expect("an id that can be a header"))
    }

    /// The proof that the replay memory asks for. It cannot be made up, so this signs and verifies.
    pub fn fresh(&self, id: &str) -> Fresh {
        fresh(self.delivery(id, b"{}").judged_by(&self.signature))
    }
}

/// The same of a delivery that was judged already.
pub fn fresh(judged: Result<Authentic, Reason>) -> Fresh {
    freshness::check(judged.expect("genuine"), Now::at(NOW, 0)).expect("fresh")
}

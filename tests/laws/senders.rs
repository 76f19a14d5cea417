//! Those who sign. Each makes genuine deliveries, in which everything that its schemes may read is there
//! or not by chance.

use std::cell::RefCell;

use hookgate::clock::Now;
use hookgate::config::provider::preset;
use hookgate::config::scheme::compile;
use hookgate::gate::filter::freshness::{self, Fresh};
use hookgate::gate::filter::signature::{Scheme, Signature};
use hookgate::gate::parse::jws;
use hookgate::gate::parse::url::{PublicUrl, SignedQuery};
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::algorithm::{Algorithm, KeyedMac};
use hookgate::gate::scheme::content::Piece;
use hookgate::gate::scheme::reading::Reading;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::timestamp::TimeUnit;
use hookgate::gate::scheme::{Assurance, Key, Payload, Recipe, SignatureFormat, TokenPayload, Verifier};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::pure::{Delivery, NOW};
use super::reader::{Said, read};
use super::rng::Rng;

const KEY: &[u8] = b"a key that opens nothing else";
const URL: &str = "https://example.com/hooks";
pub const FORM: &str = "application/x-www-form-urlencoded";
pub const MULTIPART: &str = "multipart/form-data; boundary=xx";

/// One who signs, and the gate that shares its key.
pub struct Sender {
    pub name: String,
    pub recipes: Vec<Recipe>,
    pub methods: Vec<Method>,
    gate: Signature,
    /// What was signed since [`Sender::begin`], and the body beside it.
    signed: RefCell<Vec<(Said, Vec<u8>)>>,
}

impl Sender {
    pub fn preset(name: &str) -> Self {
        let preset = preset(name).unwrap();
        let methods = match &preset.methods[..] {
            [] => vec![Method::POST],
            methods => methods.iter().map(|method| method.parse().unwrap()).collect(),
        };
        let recipes = preset.schemes.iter().map(|scheme| shared(compile(scheme, None, None).unwrap()));
        Sender::new(name.to_owned(), recipes.collect(), methods)
    }

    /// A key's id is the number of its scheme, so that a verdict tells which one it is of.
    pub fn new(name: String, recipes: Vec<Recipe>, methods: Vec<Method>) -> Self {
        let given: PublicUrl = URL.parse().unwrap();
        let recipes: Vec<_> = recipes.into_iter().map(|recipe| recipe.at(Some(&given))).collect();
        let scheme = |(n, recipe): (usize, &Recipe)| {
            let verifier = Verifier::new(recipe.algorithm, KEY).unwrap();
            Scheme::new(recipe.clone(), vec![Key { id: n.to_string().into(), verifier }])
        };
        let gate = Signature::new(recipes.iter().enumerate().map(scheme).collect());
        Sender { name, recipes, methods, gate, signed: RefCell::default() }
    }

    /// What is accepted, with the recipe that it came under.
    pub fn judge(&self, delivery: &Delivery) -> Result<(&Recipe, Fresh), Reason> {
        let authentic = delivery.judged_by(&self.gate)?;
        let n: usize = authentic.key_id().parse().unwrap();
        Ok((&self.recipes[n], freshness::check(authentic, Now::at(NOW, 0))?))
    }

    /// Nothing was signed before.
    pub fn begin(&self) {
        self.signed.borrow_mut().clear();
    }

    /// Whether all that the scheme's signature vouches for was signed, as another reader sees it. An
    /// objection if there is something that can be read in two ways.
    pub fn has_signed(&self, under: &Recipe, delivery: &Delivery) -> Result<bool, String> {
        let said = read(under, delivery)?;
        let is_like = |(known, body): &(Said, Vec<u8>)| match under.assurance {
            // Whoever shows a credential may say anything.
            Assurance::Authenticated => true,
            Assurance::Verified => said.has_values_of(known) && *body == delivery.body,
            // Where the values end is left open, not what was said.
            Assurance::Partial => said.has_row_of(known),
        };
        Ok(self.signed.borrow().iter().any(is_like))
    }

    /// A genuine delivery. Presets make one of each of their schemes; what a random scheme cannot
    /// sign, such as a value that could be read in two ways, is not sent.
    pub fn genuine(&self, rng: &mut Rng) -> Option<Delivery> {
        let id = format!("evt_{:x}", rng.next());
        let recipe = rng.pick(&self.recipes);
        let body = self.body(recipe, &id, rng);
        let mut delivery = self.signed(recipe, &id, &body, rng)?;
        // Some sign one body in several ways at once.
        if self.recipes.len() > 1 && rng.chance(40) {
            let other = rng.pick(&self.recipes);
            if let Some(second) = self.signed(other, &id, &body, rng)
                && (&second.body, &second.query) == (&delivery.body, &delivery.query)
            {
                for (name, value) in second.headers {
                    delivery.headers.entry(name.unwrap()).or_insert(value);
                }
            }
        }
        Some(delivery).filter(|delivery| self.judge(delivery).is_ok())
    }

    fn signed(&self, recipe: &Recipe, id: &str, body: &[u8], rng: &mut Rng) -> Option<Delivery> {
        let key = recipe.algorithm.keyed(KEY).unwrap();
        let mut signing = recipe.clone();
        if recipe.url_rule.query == SignedQuery::AsReceived || !recipe.needs_url() {
            let query = self.query(rng);
            signing.url = Some(format!("{URL}{query}").parse().unwrap());
        }
        let time_ms = (NOW - 2) * 1000;
        let mut delivery = Delivery::sent(signing.sign(&key, Unsigned { id, time_ms, body })?);
        for source in unset_headers(recipe) {
            if rng.chance(50) {
                delivery.headers.entry(source).or_insert(id.parse().unwrap());
            }
        }
        if !delivery.headers.contains_key(CONTENT_TYPE) {
            let types = ["application/json", "text/plain", "application/json; charset=utf-8"];
            let json = matches!(body.first(), Some(b'{'));
            let kind = if json { *rng.pick(&types) } else { FORM };
            delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if recipe.content.pieces().any(|piece| *piece == Piece::Method) {
            delivery.method = rng.pick(&self.methods).clone();
        }
        sign_again(recipe, &key, &mut delivery, rng)?;
        if matches!(recipe.payload, Some(Payload::Multipart(_))) && !recipe.covers_body() && rng.chance(50) {
            let part = b"--xx\r\ncontent-disposition: form-data; name=\"json\"\r\n\r\n";
            delivery.body = [part, &delivery.body[..], b"\r\n--xx--\r\n"].concat();
            delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MULTIPART));
        }
        let said = read(recipe, &delivery).ok()?;
        self.signed.borrow_mut().push((said, delivery.body.clone()));
        Some(delivery)
    }

    /// With the parameters that a scheme may read, and with others.
    fn query(&self, rng: &mut Rng) -> String {
        let names = self.sources().filter_map(|source| match source {
            Source::Query(name) if !name.contains("sig") && !name.contains("SHA") => Some(name),
            _ => None,
        });
        let mut pairs: Vec<_> = names.map(|name| format!("{name}=Ab{}", rng.below(100))).collect();
        pairs.retain(|_| rng.chance(50));
        pairs.extend(
            (0..rng.below(3)).map(|n| (*rng.pick(&["x", "y%20z", "b.c"])).to_owned() + "=" + &n.to_string()),
        );
        pairs.sort();
        pairs.dedup();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    fn body(&self, recipe: &Recipe, id: &str, rng: &mut Rng) -> Vec<u8> {
        let form = recipe.content.pieces().any(Piece::reads_form)
            || recipe.signature.from.iter().chain(&recipe.id).any(|source| matches!(source, Source::Form(_)))
            || matches!(recipe.payload, Some(Payload::Form(_)));
        let json = self.json(&format!("{id}j"), rng).to_string();
        if form {
            let names = self.sources().filter_map(|source| match source {
                Source::Form(name) if !name.contains("sig") => Some(name),
                _ => None,
            });
            let mut pairs: Vec<_> = names.map(|name| format!("{name}={id}")).collect();
            pairs.retain(|_| rng.chance(60));
            if let Some(Payload::Form(name)) = &recipe.payload {
                pairs.retain(|pair| !pair.starts_with(&**name));
                let escaped: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
                pairs.push(format!("{name}={escaped}"));
            }
            pairs.extend((0..rng.below(3)).map(|n| format!("{}={n}", rng.pick(&["To", "a%26b", "From+x"]))));
            pairs.sort();
            pairs.dedup();
            return pairs.join("&").into_bytes();
        }
        let reads_json = self.sources().any(|source| matches!(source, Source::Json(_)));
        match rng.below(10) {
            0 if !reads_json => Vec::new(),
            1 | 2 if !reads_json => format!("x.{}:y;z", rng.below(1000)).into_bytes(),
            3 if !reads_json => (0..rng.below(20)).map(|_| rng.byte()).collect(),
            4 if !reads_json => b"a=1&b=2".to_vec(),
            _ => json.into_bytes(),
        }
    }

    /// A document with the ids and times that the schemes read; `sign` adds what is signed by value.
    fn json(&self, id: &str, rng: &mut Rng) -> Value {
        let mut document = json!({ "note": "a.b:c;d", "n": rng.below(1000) });
        for recipe in &self.recipes {
            if let Some(rule) = &recipe.timestamp {
                for source in rule.from.iter().take(1) {
                    let time = rule.unit.format((NOW - 1) * 1000);
                    let number = matches!(rule.unit, TimeUnit::S | TimeUnit::Ms);
                    put(
                        &mut document,
                        source,
                        if number { time.parse::<i64>().unwrap().into() } else { time.into() },
                    );
                }
            }
            for source in recipe.id.iter().chain(&recipe.event_type) {
                if rng.chance(80) {
                    put(&mut document, source, id.into());
                }
            }
        }
        document
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.recipes.iter().flat_map(sources)
    }
}

/// What the recipe reads to decide something or to tell it.
pub fn sources(recipe: &Recipe) -> impl Iterator<Item = &Source> {
    let values = recipe.content.values().map(|(_, source, _)| source);
    let times = recipe.timestamp.iter().flat_map(|rule| &rule.from);
    let also = recipe.also.iter().map(|equality| &equality.source);
    values
        .chain(times)
        .chain(also)
        .chain(&recipe.when)
        .chain(&recipe.id)
        .chain(&recipe.event_type)
        .chain(&recipe.signature.from)
}

/// With a key that can sign: which code is used is the same to every law.
fn shared(mut recipe: Recipe) -> Recipe {
    recipe.algorithm = match recipe.algorithm {
        Algorithm::RsaSha1 => Algorithm::HmacSha1,
        Algorithm::RsaSha512 | Algorithm::EcdsaP521Sha512 => Algorithm::HmacSha512,
        public if public.is_public() => Algorithm::HmacSha256,
        other => other,
    };
    recipe
}

/// Headers that the sender may leave out.
fn unset_headers(recipe: &Recipe) -> Vec<http::HeaderName> {
    let optional = recipe.content.values().filter(|(_, _, required)| !required).map(|(_, source, _)| source);
    let named = optional.chain(&recipe.event_type).filter_map(|source| match source {
        Source::Header(name) => Some(name.clone()),
        _ => None,
    });
    named.collect()
}

/// Signs what was changed since `sign`, where the signature is a header of its own.
fn sign_again(recipe: &Recipe, key: &KeyedMac, delivery: &mut Delivery, rng: &mut Rng) -> Option<()> {
    let Source::Header(place) = &recipe.signature.from[0] else { return Some(()) };
    if recipe.algorithm == Algorithm::Token {
        return Some(());
    }
    let tag = |delivery: &Delivery, rng: &mut Rng| {
        let mut mac = key.clone();
        let head = delivery.head();
        let reading = Reading::new(recipe, &head, &delivery.body);
        let variants: Vec<_> = reading.variants().collect();
        reading.signed(*rng.pick(&variants), key.secret(), |bytes| mac.update(bytes)).ok()?;
        Some(mac.finish())
    };
    let value = match &recipe.signature.format {
        SignatureFormat::Plain { prefix, .. } => {
            let tag = recipe.signature.encoding.encode(tag(delivery, rng)?);
            format!("{}{tag}", String::from_utf8_lossy(prefix))
        }
        SignatureFormat::Token { prefix, payload: TokenPayload::Detached } => {
            let mut header = json!({ "alg": recipe.algorithm.of_token()? });
            for piece in recipe.content.pieces() {
                if let Piece::TokenHeaders(parameter) = piece {
                    let names: Vec<_> = delivery
                        .headers
                        .keys()
                        .filter(|name| *name != place)
                        .map(http::HeaderName::as_str)
                        .collect();
                    header[parameter] = names.join(", ").into();
                }
            }
            let header = jws::encoded(header.to_string().as_bytes());
            let prefix = String::from_utf8_lossy(prefix).into_owned();
            delivery.headers.insert(place, format!("{prefix}{header}..eA").parse().ok()?);
            let tag = jws::encoded(tag(delivery, rng)?.as_bytes());
            format!("{prefix}{header}..{tag}")
        }
        SignatureFormat::Fields { .. } | SignatureFormat::Token { .. } => return Some(()),
    };
    delivery.headers.insert(place, value.parse().ok()?);
    Some(())
}

/// Writes a value at a pointer, if nothing stands there.
fn put(document: &mut Value, source: &Source, value: Value) {
    let Source::Json(pointer) = source else { return };
    let mut place = document;
    for token in pointer.tokens() {
        place = match token.parse::<usize>() {
            Ok(0) => {
                if !place.is_array() {
                    *place = json!([{}]);
                }
                &mut place[0]
            }
            _ => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                &mut place[token]
            }
        };
    }
    if place.is_null() || *place == json!({}) {
        *place = value;
    }
}

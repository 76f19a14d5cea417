//! Reads the configuration file: each heading takes its own keys of the text, so that all of them
//! know their places, and all faults are told at once. What no heading takes is unknown.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::Error as Refusal;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_saphyr::Location;

use super::application::Application;
use super::checks::Checks;
use super::inbox::State;
use super::limits::Limits;
use super::listeners::Listeners;
use super::loader::{Loader, closest};
use super::located::Located;
use super::outline::Outline;
use super::process::Process;
use super::route::words::RouteWords;

/// The whole file: the keys of each heading, as its flags have them, and the routes.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct File {
    #[schemars(flatten)]
    pub listeners: Listeners,
    #[schemars(flatten)]
    pub application: Application,
    #[schemars(flatten)]
    pub checks: Checks,
    #[schemars(flatten)]
    pub limits: Limits,
    #[schemars(flatten)]
    pub state: State,
    #[schemars(flatten)]
    pub process: Process,
    #[schemars(flatten)]
    pub routes: Routes,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Routes {
    /// The endpoints; without any, there is the one that the flags describe
    pub routes: Vec<Located<RouteWords>>,
}

/// What is wrong with the text, and where.
struct FileFault {
    at: Option<Location>,
    /// Empty if it is the text itself.
    key: String,
    message: String,
}

impl File {
    /// The file that the loader reads; `None` if something is wrong with it.
    pub fn load(loader: &mut Loader) -> Option<Self> {
        match File::read(&loader.text()?) {
            Ok((file, outline)) => {
                loader.outlined(outline);
                Some(file)
            }
            Err(faults) => {
                for FileFault { at, key, message } in faults {
                    let place = at.and_then(|at| loader.place(at));
                    loader.problem_at(place, &key, message);
                }
                None
            }
        }
    }

    fn read(text: &str) -> Result<(Self, Outline), Vec<FileFault>> {
        let outline = Outline::of(text).map_err(|error| vec![fault(&error, &Outline::default())])?;
        let mut reader = Reader { text, outline: &outline, known: Vec::new(), faults: Vec::new() };
        let file = File {
            listeners: reader.heading(),
            application: reader.heading(),
            checks: reader.heading(),
            limits: reader.heading(),
            state: reader.heading(),
            process: reader.heading(),
            routes: reader.heading(),
        };
        let Reader { known, mut faults, .. } = reader;
        for (key, at) in outline.top.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let message = with_hint(format!("unknown field `{key}`, expected one of {}", known.join(", ")));
            faults.push(FileFault { at: Some(*at), key: key.clone(), message });
        }
        faults.sort_by_key(|fault| fault.at.map(|at| (at.line(), at.column())));
        if faults.is_empty() { Ok((file, outline)) } else { Err(faults) }
    }
}

struct Reader<'t> {
    text: &'t str,
    outline: &'t Outline,
    known: Vec<&'static str>,
    faults: Vec<FileFault>,
}

impl Reader<'_> {
    fn heading<T: DeserializeOwned + Default>(&mut self) -> T {
        self.known.extend(keys::<T>());
        match serde_saphyr::from_str::<Option<T>>(self.text) {
            Ok(heading) => heading.unwrap_or_default(),
            Err(error) => {
                self.faults.push(fault(&error, self.outline));
                T::default()
            }
        }
    }
}

/// The keys that a struct is read from: serde names them to whoever brings the text.
fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Asked<'k>(&'k mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = Refusal;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Refusal> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
            Err(Refusal::custom("there is no text"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys: &[&str] = &[];
    _ = T::deserialize(Asked(&mut keys));
    keys
}

/// The reader's message without its own mention of the place, and of which key it speaks.
fn fault(error: &serde_saphyr::Error, outline: &Outline) -> FileFault {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let message = match text.find(" at line ") {
        Some(at) => &text[..at],
        None => text,
    };
    let whole = message.starts_with("missing field");
    let key = error.location().and_then(|at| outline.at(at, whole)).unwrap_or_default().to_owned();
    let message = with_hint(remedied(message, &key));
    FileFault { at: error.location(), key, message }
}

/// What the readers of numbers, words and lists say, with what to write instead.
fn remedied(message: &str, key: &str) -> String {
    const NUMBERS: [&str; 4] = ["invalid u64", "invalid u32", "invalid u16", "invalid usize"];
    match message {
        "expected sequence start" => "a list is wanted here: write [ before and ] after it".to_owned(),
        "expected mapping start" => format!("keys are wanted here, such as {}", keys_of(key)),
        "expected string scalar" => {
            "one value is wanted here: write it without the brackets, or leave the key out".to_owned()
        }
        "invalid boolean" => "not yes or no: write true or false".to_owned(),
        "invalid socket address syntax" => {
            "not an address with a port: write for example 0.0.0.0:17080".to_owned()
        }
        _ if NUMBERS.contains(&message) || message.ends_with("expected u16") => {
            "not a whole number: write for example 4, or leave the key out".to_owned()
        }
        _ if message.starts_with("cannot deserialize null") => {
            "nothing stands here: write a value, or leave the key out".to_owned()
        }
        _ if message.contains("externally tagged enum") => {
            "one word is wanted here: write it without the brackets, or leave the key out".to_owned()
        }
        _ if message.contains("expected a list, such as [{") => {
            format!("a list is wanted here, such as [{}]", keys_of(key))
        }
        _ if message.starts_with("missing field") => format!("{message}: write it as well"),
        _ => message.to_owned(),
    }
}

/// An example of the keys that stand in it.
fn keys_of(key: &str) -> &'static str {
    let of_route = key.starts_with("routes[");
    match key.rsplit('.').next().unwrap_or_default() {
        "inbox" if of_route => "{ on: failure }",
        "inbox" => "{ max_bytes: 1GiB }",
        "keys" => "{ dir: /etc/hookgate/keys }",
        "limits" => "{ max_body: 1MiB }",
        "replay" => "{ window: 24h }",
        "retry" => "{ first: 1s, max: 1h }",
        "deliver" => "{ max_concurrent: 8 }",
        "resign" => "{ as: standard-webhooks, secrets: [{ file: /etc/hookgate/app-key }] }",
        "events" => "{ take: [push] }",
        "tenant" => "{ from: \"header:X-Shop-Domain\" }",
        "status" => "{ signature: 403 }",
        when if when.starts_with("when") => "{ \"json:/ref\": [refs/heads/main] }",
        route if route.starts_with("routes") => "{ name: github, path: /hooks/github, provider: github }",
        _ => "{ file: /etc/hookgate/secrets/github }",
    }
}

/// With what may have been meant by a misspelt key.
fn with_hint(message: String) -> String {
    let quoted = message.split('`').nth(1).or_else(|| message.split('\'').nth(1));
    let Some(unknown) = quoted.filter(|_| message.contains("unknown")) else { return message };
    let words: Vec<_> =
        message.split(['`', '\'', ',', ' ']).filter(|w| !w.is_empty() && *w != unknown).collect();
    match closest(unknown, &words) {
        Some(hint) => format!("{message}; did you mean {hint}?"),
        None => message,
    }
}

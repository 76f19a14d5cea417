//! What outlives a crash: where it lies, how much it may hold, and how it is sealed.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::loader::Loader;
use super::located::{Located, overlay};
use super::units::{ByteSize, is_off};
use crate::clock;
use crate::files;
use crate::inbox::seal::Keys;
use crate::inbox::{Bounds, shelf};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Inbox")]
    #[serde(default)]
    pub struct State {
        /// Folder for what must outlive a restart: the inbox, the memory of events, and keys that were
        /// fetched. One gate has it, on a disk
        /// that stays [default: none]
        #[arg(long, value_name = "PATH")]
        pub state_dir: Option<Located<PathBuf>>,

        /// How much the inbox of all routes holds, and how it is sealed
        #[command(flatten)]
        pub inbox: Inbox,

        /// How much is kept of what was refused; nothing unless this is here, or if it is off
        #[arg(skip)]
        #[serde(deserialize_with = "kept_or_off")]
        #[schemars(schema_with = "schema_of_kept_or_off")]
        pub refused: Option<Refused>,
    }
}

/// How much is kept of what was refused.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refused {
    /// The most requests that are kept [default: 100]
    pub keep: Option<Located<usize>>,

    /// The most that they take together [default: 16MiB]
    pub max_bytes: Option<Located<ByteSize>>,
}

/// Its keys, or `off`, which is a boolean in YAML without quotes.
fn kept_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Refused>, D::Error> {
    struct KeptOrOff;

    impl<'de> Visitor<'de> for KeptOrOff {
        type Value = Option<Refused>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys such as { keep: 100 }, or off")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
            self.visit_str(if on { "on" } else { "off" })
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
            if is_off(word) { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Refused::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(KeptOrOff)
}

fn schema_of_kept_or_off(generator: &mut SchemaGenerator) -> Schema {
    let kept = generator.subschema_for::<Refused>();
    schemars::json_schema!({ "anyOf": [kept, { "enum": ["off", "no", false, null] }] })
}

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Inbox {
        /// The most that it holds; then events are answered as without an inbox [default: 1GiB]
        #[arg(skip)]
        pub max_bytes: Option<Located<ByteSize>>,

        /// File with the keys that seal what is stored: 32 bytes in hex or base64, one key a line, the newest first
        #[arg(skip)]
        pub encryption_key_file: Option<Located<PathBuf>>,
    }
}

/// Where the state lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    pub path: PathBuf,
}

/// What must be left of the disk for everybody else.
const MIN_FREE: u64 = 64 << 20;
/// How long an operator has to look at what the application never took.
const KEEP_DEAD: Duration = Duration::from_secs(7 * 24 * 3600);
/// A smaller inbox would not hold one event of the usual largest size.
const LEAST: ByteSize = ByteSize(1 << 20);
/// Who leaves is looked for among all of them.
const MOST_KEPT: usize = 10_000;
/// A quarter of it is the most that one request takes.
const LEAST_KEPT: ByteSize = ByteSize(64 << 10);
/// It is for looking, and strangers fill it.
const MOST_BYTES_KEPT: ByteSize = ByteSize(1 << 30);

impl State {
    /// How much there may be of what is stored, wherever it lies.
    pub fn bounds(&self, loader: &mut Loader) -> Bounds {
        let max_bytes = loader.pick("inbox.max_bytes", self.inbox.max_bytes.as_ref(), ByteSize(1 << 30));
        if let Some(given) = self.inbox.max_bytes.as_ref().filter(|_| max_bytes < LEAST) {
            let message = format!("{max_bytes} is too little: write at least {LEAST}");
            loader.located_problem("inbox.max_bytes", given, message);
        }
        let keep_dead_ms = clock::millis(KEEP_DEAD);
        Bounds { max_bytes: max_bytes.0 as u64, min_free: MIN_FREE, keep_dead_ms }
    }

    /// Where the state lies; `None` if nothing is to outlive the process in a folder.
    pub fn folder(&self, loader: &mut Loader) -> Option<StateDir> {
        let path = loader.folder_to_make("state_dir", self.state_dir.as_ref())?;
        if !loader.is_for_elsewhere()
            && let Some(why) = files::passing(&path)
        {
            loader.notice(format!(
                "state_dir: {} is {why}: what is stored there is lost with it, although its senders were told that it \
                 was taken; mount a disk that stays (a PersistentVolumeClaim)",
                path.display()
            ));
        }
        Some(StateDir { path })
    }

    /// How much is kept of what was refused; `None` if nothing is.
    pub fn shelf(&self, loader: &mut Loader) -> Option<shelf::Bounds> {
        let Refused { keep, max_bytes } = self.refused.as_ref()?;
        let requests = loader.pick("refused.keep", keep.as_ref(), 100);
        if let Some(given) = keep.as_ref().filter(|_| !(1..=MOST_KEPT).contains(&requests)) {
            let message = format!(
                "{requests} is out of range: write 1 to {MOST_KEPT}, or leave refused out to keep nothing"
            );
            loader.located_problem("refused.keep", given, message);
        }
        let bytes = loader.pick("refused.max_bytes", max_bytes.as_ref(), ByteSize(16 << 20));
        let in_range = (LEAST_KEPT..=MOST_BYTES_KEPT).contains(&bytes);
        if let Some(given) = max_bytes.as_ref().filter(|_| !in_range) {
            let message = format!("{bytes} is out of range: write {LEAST_KEPT} to {MOST_BYTES_KEPT}");
            loader.located_problem("refused.max_bytes", given, message);
        }
        if self.state_dir.is_none() {
            loader.problem(
                "refused",
                "what was refused is kept in the state_dir of this gate, also beside a shared store: name one, or leave \
                 this out",
            );
        }
        Some(shelf::Bounds { requests, bytes: bytes.0 as u64 })
    }

    /// The keys that seal what is stored.
    pub fn keys(&self, loader: &mut Loader, may_share: bool) -> Arc<Keys> {
        const KEY: &str = "inbox.encryption_key_file";

        let Some(file) = &self.inbox.encryption_key_file else { return Arc::default() };
        loader.given(KEY, file.value.display(), file);
        if self.state_dir.is_none() && !may_share {
            loader.located_problem(
                KEY,
                file,
                "nothing is stored without a state_dir or a shared store: name one, or leave this out",
            );
        }
        let Some(text) = loader.read(KEY, file) else { return Arc::default() };
        match Keys::parse(&text) {
            Ok(keys) => Arc::new(keys),
            Err(message) => {
                loader.located_problem(KEY, file, format!("{} {message}", file.value.display()));
                Arc::default()
            }
        }
    }
}

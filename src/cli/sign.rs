//! `hookgate sign`: the headers that a provider would send for a body, so that anyone can
//! test an endpoint of their own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http::HeaderMap;

use super::print;
use super::run::INVALID_CONFIGURATION;
use crate::clock;
use crate::config::provider::{compile, preset, unknown};
use crate::config::secret::Secret;
use crate::gate::scheme::Recipe;
use crate::gate::scheme::sign::{Unsigned, lines};
use crate::gate::scheme::timestamp::TimeUnit;
use crate::telemetry::RequestId;

/// Who signs, and with what. `send` takes the same.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Whose way of signing: the name of a preset
    #[arg(long, value_name = "NAME", default_value = "scalekit")]
    pub provider: String,

    /// File with the signing secret; of any length here
    #[arg(long, value_name = "PATH")]
    pub secret_file: PathBuf,

    /// The event's id, where the provider sends one in a header [default: a new one]
    #[arg(long)]
    pub id: Option<String>,

    /// The signed time: Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub now: Option<i64>,
}

#[derive(Debug, Args)]
pub struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,

    /// File with the body; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    body: PathBuf,

    /// Where it would be sent; printed with --curl
    #[arg(long)]
    url: Option<String>,

    /// Print arguments for curl: curl $(hookgate sign --curl …)
    #[arg(long)]
    curl: bool,
}

/// Why nothing could be signed, and the exit code for it.
#[derive(Debug)]
pub struct Unable {
    pub message: String,
    code: u8,
}

impl Unable {
    pub fn usage(message: impl Into<String>) -> Self {
        Unable { message: message.into(), code: 2 }
    }

    pub fn configuration(message: impl Into<String>) -> Self {
        Unable { message: message.into(), code: INVALID_CONFIGURATION }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Unable { message: message.into(), code: 1 }
    }

    pub fn exit(self) -> ExitCode {
        eprintln!("{}", self.message);
        ExitCode::from(self.code)
    }
}

pub fn sign(args: &SignArgs) -> ExitCode {
    match signed(args) {
        Ok((headers, spaced)) => {
            if spaced {
                eprintln!("a value holds a space: pass the headers to curl one by one");
            }
            headers.iter().for_each(print);
            ExitCode::SUCCESS
        }
        Err(unable) => unable.exit(),
    }
}

/// The lines to print, and whether a shell would split one of them.
fn signed(args: &SignArgs) -> Result<(Vec<String>, bool), Unable> {
    let body = read(&args.body)?;
    let headers = args.signer.sign(&body, 0)?;
    if !args.curl {
        return Ok((lines(&headers).map(|(name, value)| format!("{name}: {value}")).collect(), false));
    }
    // A shell splits what it substitutes at white space and does not look for quotes.
    let mut words: Vec<_> = lines(&headers).map(|(name, value)| format!("-H {name}:{value}")).collect();
    let spaced = lines(&headers).any(|(_, value)| value.contains(' '));
    if args.body != Path::new("-") {
        words.push(format!("--data-binary @{}", args.body.display()));
    }
    words.extend(args.url.clone());
    Ok((words, spaced))
}

impl SignerArgs {
    /// The headers for a body, signed `age_ms` ago.
    pub fn sign(&self, body: &[u8], age_ms: i64) -> Result<HeaderMap, Unable> {
        let recipe = recipe(&self.provider)?;
        let secret = secret(&self.secret_file)?;
        let key = recipe
            .key
            .decode(secret.expose())
            .map_err(|e| Unable::configuration(format!("{}: {e}", self.secret_file.display())))?;
        let id = self.id();
        let time_ms = self.now.unwrap_or_else(|| clock::now().wall_ms) - age_ms;
        recipe
            .sign(&recipe.algorithm.keyed(&key), Unsigned { id: &id, time_ms, body })
            .ok_or_else(|| Unable::usage(format!("the id \"{id}\" cannot stand in a header")))
    }

    pub fn id(&self) -> String {
        let new = || format!("evt_{}", String::from_utf8_lossy(&RequestId::next().hex()));
        self.id.clone().unwrap_or_else(new)
    }
}

fn recipe(provider: &str) -> Result<Recipe, Unable> {
    let preset = preset(provider).ok_or_else(|| Unable::usage(unknown(provider)))?;
    compile(&preset.schemes[0], None, None).map_err(|fault| Unable::failed(fault.message))
}

pub fn secret(path: &Path) -> Result<Secret, Unable> {
    let bytes = std::fs::read(path)
        .map_err(|e| Unable::configuration(format!("cannot read {}: {e}", path.display())))?;
    let (secret, _) = Secret::from_bytes(bytes);
    if secret.is_empty() {
        return Err(Unable::configuration(format!("{} is empty", path.display())));
    }
    Ok(secret)
}

/// The bytes of a file, or of standard input.
pub fn read(path: &Path) -> Result<Vec<u8>, Unable> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|e| Unable::failed(format!("cannot read {}: {e}", path.display())))
}

/// Unix seconds or RFC 3339, as milliseconds since the epoch.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let time = TimeUnit::S.parse(text.as_bytes()).or_else(|| TimeUnit::Rfc3339.parse(text.as_bytes()));
    time.ok_or_else(|| format!("\"{text}\" is no time: write 1700000000 or 2023-11-14T22:13:20Z"))
}

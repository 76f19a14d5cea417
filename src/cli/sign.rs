//! `hookgate sign`: the headers that a provider would send for a body, so that anyone can
//! test an endpoint of their own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::run::INVALID_CONFIGURATION;
use super::verify::{route_of_file, secrets_of_tenant};
use super::{print, trial_secret};
use crate::clock;
use crate::config::provider::{NamedSecret, preset, unknown};
use crate::config::route::{Elsewhere, KeyedRoute};
use crate::config::scheme::compile;
use crate::config::secret::Secret;
use crate::gate::parse::form::Form;
use crate::gate::scheme::Recipe;
use crate::gate::scheme::sign::{Signed, Unsigned, lines};
use crate::gate::scheme::source::Source;
use crate::gate::scheme::timestamp::{TimeUnit, TimestampRule};
use crate::telemetry::RequestId;

/// Who signs, and with what. `send` takes the same.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Whose way of signing: the name of a preset [default: scalekit]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub provider: Option<String>,

    /// File with the signing secret; of any length here [default: HOOKGATE_SECRET]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub secret_file: Option<PathBuf>,

    /// Sign for a route of this configuration file instead, with its newest secret
    #[arg(short, long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Which route, if the file has several
    #[arg(long, value_name = "NAME", requires = "config")]
    pub route: Option<String>,

    /// For which tenant, on a route that has some
    #[arg(long, value_name = "NAME", requires = "config")]
    pub tenant: Option<String>,

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

    /// Where it would be sent: printed with --curl, and signed if the provider signs it
    #[arg(long)]
    url: Option<String>,

    /// Where to write the body, for providers that put the signature into it
    #[arg(long, value_name = "FILE")]
    body_out: Option<PathBuf>,

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
    let signed = args.signer.sign(&body, 0, args.url.as_deref())?;
    let body_file = body_file(args, &body, &signed)?;
    let url = args.url.as_ref().map(|url| with_query(url, signed.query.as_deref()));
    if !args.curl {
        let mut shown: Vec<_> =
            lines(&signed.headers).map(|(name, value)| format!("{name}: {value}")).collect();
        if url != args.url {
            shown.extend(url.map(|url| format!("send it to {url}")));
        }
        return Ok((shown, false));
    }
    // A shell splits what it substitutes at white space and does not look for quotes.
    let mut words: Vec<_> =
        lines(&signed.headers).map(|(name, value)| format!("-H {name}:{value}")).collect();
    let spaced = lines(&signed.headers).any(|(_, value)| value.contains(' '));
    words.extend(body_file.map(|file| format!("--data-binary @{}", file.display())));
    words.extend(url);
    Ok((words, spaced))
}

/// The file that holds what is to be sent; `None` if that came from standard input.
fn body_file<'a>(args: &'a SignArgs, body: &[u8], signed: &Signed) -> Result<Option<&'a Path>, Unable> {
    if let Some(file) = &args.body_out {
        std::fs::write(file, &signed.body)
            .map_err(|e| Unable::failed(format!("cannot write {}: {e}", file.display())))?;
        return Ok(Some(file));
    }
    if signed.body != body {
        return Err(Unable::usage(
            "this provider puts its signature into the body: say where to write it with --body-out",
        ));
    }
    Ok(Some(args.body.as_path()).filter(|path| *path != Path::new("-")))
}

/// The URL with the query that is sent.
pub fn with_query(url: &str, query: Option<&str>) -> String {
    let bare = url.split('?').next().unwrap_or(url);
    query.map_or_else(|| bare.to_owned(), |query| format!("{bare}?{query}"))
}

impl SignerArgs {
    /// What the provider would send for a body to this URL, signed `age_ms` ago.
    pub fn sign(&self, body: &[u8], age_ms: i64, url: Option<&str>) -> Result<Signed, Unable> {
        let url = url.map(str::parse).transpose().map_err(Unable::usage)?;
        let Signer { provider, recipe, secret, place } = self.signer(body)?;
        // A route knows the URL that its provider was given.
        let recipe = if recipe.url.is_some() { recipe } else { recipe.at(url.as_ref()) };
        if recipe.url.is_none() && recipe.needs_url() {
            return Err(Unable::usage(format!("{provider} signs the URL: give --url")));
        }
        let key =
            recipe.signer(secret.expose()).map_err(|e| Unable::configuration(format!("{place}: {e}")))?;
        let id = self.id();
        let time_ms = self.now.unwrap_or_else(|| clock::now().wall_ms) - age_ms;
        recipe.sign(&key, Unsigned { id: &id, time_ms, body }).ok_or_else(|| {
            Unable::usage(format!("the id \"{id}\" or the body cannot be sent in {provider}'s way"))
        })
    }

    /// The event with the time that its provider writes into its body.
    pub fn timed(&self, mut event: Value, time_ms: i64) -> Result<Value, Unable> {
        let Signer { recipe, .. } = self.signer(event.to_string().as_bytes())?;
        if let Some(TimestampRule { from, unit, .. }) = &recipe.timestamp
            && let Some(Source::Json(pointer)) = from.first()
            && let Some(name) =
                pointer.to_string().strip_prefix('/').filter(|name| !name.contains(['/', '~']))
        {
            let written = unit.format(time_ms);
            event[name] =
                written.parse().map_or_else(|_| written.as_str().into(), |number: i64| number.into());
        }
        Ok(event)
    }

    fn signer(&self, body: &[u8]) -> Result<Signer, Unable> {
        if self.config.is_some() {
            return self.signer_of_route(body);
        }
        let provider = self.provider.clone().unwrap_or_else(|| "scalekit".to_owned());
        let recipe = recipe(&provider, body)?;
        let (secret, place) = match &self.secret_file {
            Some(path) => (secret(path)?, path.display().to_string()),
            None => {
                let missing = "no secret: give --secret-file, or --config and --route, or HOOKGATE_SECRET";
                (trial_secret().ok_or_else(|| Unable::usage(missing))?, "HOOKGATE_SECRET".to_owned())
            }
        };
        Ok(Signer { provider, recipe, secret, place })
    }

    /// The first of the route's schemes for such a body, with the first of its secrets that has not ended.
    fn signer_of_route(&self, body: &[u8]) -> Result<Signer, Unable> {
        let (mut keyed, _) = route_of_file(self.config.as_ref(), self.route.as_deref())?;
        match (&keyed.elsewhere, &self.tenant) {
            (Some(Elsewhere::Tenants(from)), Some(tenant)) => {
                let found = secrets_of_tenant(self.config.as_ref(), from, &keyed.route.name, tenant)?;
                keyed.secrets = found.map_err(Unable::failed)?;
            }
            (Some(Elsewhere::Tenants(_)), None) => {
                let message = format!("whose secret? route {} has tenants: give --tenant", keyed.route.name);
                return Err(Unable::usage(message));
            }
            (Some(Elsewhere::Published(_)), _) => {
                let message = format!(
                    "route {} is signed with a key that its provider publishes, and only the provider can sign with",
                    keyed.route.name
                );
                return Err(Unable::usage(message));
            }
            (None, Some(_)) => {
                let message = format!("route {} has no tenants: leave --tenant out", keyed.route.name);
                return Err(Unable::usage(message));
            }
            (None, None) => {}
        }
        let KeyedRoute { route, secrets, .. } = keyed;
        let now = self.now.unwrap_or_else(|| clock::now().wall_ms);
        let ended = |secret: &NamedSecret| secret.not_after_ms.is_some_and(|end| now > end);
        let newest = secrets.iter().find(|secret| !ended(secret)).or(secrets.first());
        let recipes = route.signature.schemes().iter().map(|scheme| scheme.recipe().clone()).collect();
        let (Some(NamedSecret { id, secret, .. }), Some(recipe)) = (newest, fitting(recipes, body)) else {
            return Err(Unable::configuration(format!("route {} has no secret", route.name)));
        };
        Ok(Signer {
            provider: route.provider.to_string(),
            recipe,
            secret: secret.clone(),
            place: format!("secret {id} of route {}", route.name),
        })
    }

    pub fn id(&self) -> String {
        let new = || format!("evt_{}", String::from_utf8_lossy(&RequestId::next().hex()));
        self.id.clone().unwrap_or_else(new)
    }
}

/// Who signs, with what, and where that secret stands.
struct Signer {
    provider: String,
    recipe: Recipe,
    secret: Secret,
    place: String,
}

fn recipe(provider: &str, body: &[u8]) -> Result<Recipe, Unable> {
    let preset = preset(provider).ok_or_else(|| Unable::usage(unknown(provider)))?;
    let recipes: Result<Vec<_>, _> =
        preset.schemes.iter().map(|scheme| compile(scheme, None, None)).collect();
    let recipes = recipes.map_err(|fault| Unable::failed(fault.message))?;
    fitting(recipes, body).ok_or_else(|| Unable::usage(format!("{provider} signs nothing")))
}

/// The first way in which such a body is signed: some are only for forms that have a field. Where none fits, the
/// first makes of the body what it needs.
fn fitting(mut recipes: Vec<Recipe>, body: &[u8]) -> Option<Recipe> {
    let has = |source: &Source| match source {
        Source::Form(name) => Form::parse(body).is_ok_and(|form| matches!(form.single(name), Ok(Some(_)))),
        _ => true,
    };
    let at = recipes.iter().position(|recipe| recipe.when.iter().all(has)).unwrap_or_default();
    (at < recipes.len()).then(|| recipes.swap_remove(at))
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
    time.ok_or_else(|| format!("\"{text}\" is not a time: write 1700000000 or 2023-11-14T22:13:20Z"))
}

//! `hookgate verify FILE`: judge a captured raw HTTP request offline, and say what would
//! have made its signature hold.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::sign::{Unable, parse_time, read, secret};
use super::{print, shown};
use crate::clock::{self, Doubt, Now};
use crate::config::Config;
use crate::config::flags::{Given, RunArgs};
use crate::config::provider::{NamedSecret, keyed, preset, rotation, unknown};
use crate::config::route::KeyedRoute;
use crate::config::scheme::compile;
use crate::diagnosis::{Case, hints};
use crate::gate::delivery::{Head, split_target};
use crate::gate::filter::freshness;
use crate::gate::filter::signature::{Authentic, Named, Signature};
use crate::gate::parse::url::PublicUrl;
use crate::gate::reason::Reason;
use crate::gate::scheme::Recipe;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The raw request: request line, headers, an empty line, body; `-` is standard input
    file: PathBuf,

    /// Whose way of signing: the name of a preset [default: scalekit]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    provider: Option<String>,

    /// File with a signing secret; repeatable; of any length here
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    secret_file: Vec<PathBuf>,

    /// Judge by a route of this configuration file instead
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// Which route, if the file has several
    #[arg(long, value_name = "NAME", requires = "config")]
    route: Option<String>,

    /// When it arrived: Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<i64>,

    /// The URL that the provider was given, for providers that sign it
    #[arg(long)]
    url: Option<String>,
}

/// Exit 0 accepted, 1 refused.
pub fn verify(args: &VerifyArgs) -> ExitCode {
    match judged(args) {
        Ok((accepted, json)) => {
            print(shown(&json.to_string()));
            if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(unable) => unable.exit(),
    }
}

/// What a request is judged by.
struct Demands {
    provider: String,
    route: String,
    recipes: Vec<Recipe>,
    secrets: Vec<NamedSecret>,
}

impl Demands {
    /// Secrets may be of any length here. Schemes that no secret fits stay: a delivery under them
    /// is refused, and diagnosed.
    fn signature(&self) -> Signature {
        Signature::new(
            self.recipes.iter().map(|recipe| keyed(recipe.clone(), &self.secrets, true).0).collect(),
        )
    }
}

fn judged(args: &VerifyArgs) -> Result<(bool, serde_json::Value), Unable> {
    let url: Option<PublicUrl> = args.url.as_deref().map(str::parse).transpose().map_err(Unable::usage)?;
    let mut demands = demands(args)?;
    demands.recipes = demands.recipes.into_iter().map(|recipe| recipe.at(url.as_ref())).collect();
    if let Some(recipe) = demands.recipes.iter().find(|recipe| recipe.needs_url() && recipe.url.is_none()) {
        let place = &recipe.signature.from[0];
        return Err(Unable::usage(format!("{} signs the URL, in {place}: give --url", demands.provider)));
    }
    let captured = Captured::parse(&read(&args.file)?).map_err(|message| Unable::usage(shown(&message)))?;
    let head = captured.head();
    let wall_ms = args.now.unwrap_or_else(|| clock::now().wall_ms);
    let now = Now { wall_ms, mono: std::time::Duration::ZERO, doubt: Doubt::None };

    let (signature, rotation) = (demands.signature(), rotation(&demands.secrets));
    let usable = |id: &str| rotation.is_usable(id, now);
    let verified = signature
        .presented(&head)
        .and_then(|presented| signature.verify(&presented, &demands.route, &head, &captured.body, usable));
    let authentic = verified.as_ref().ok().cloned();
    let reason = match verified.and_then(|authentic| freshness::check(authentic, now)) {
        Ok(_) => Reason::Accepted,
        Err(reason) => reason,
    };
    let hints = if reason.is_signature() {
        let Demands { provider, recipes, secrets, .. } = &demands;
        hints(&Case { provider, recipes, secrets, head: &head, body: &captured.body, now })
    } else {
        Vec::new()
    };
    let named = |name: fn(&Authentic) -> Option<&Named>| Some(&name(authentic.as_ref()?)?.text);
    let json = serde_json::json!({
        "verdict": reason.verdict().label(),
        "reason": reason.label(),
        "key_id": authentic.as_ref().map(|a| &**a.key_id()),
        "assurance": authentic.as_ref().map(|a| a.assurance().label()),
        "event_id": named(Authentic::event_id),
        "event_type": named(Authentic::event_type),
        "hints": hints,
    });
    Ok((reason == Reason::Accepted, json))
}

fn demands(args: &VerifyArgs) -> Result<Demands, Unable> {
    match &args.config {
        Some(_) => demands_of_route(args),
        None => demands_of_preset(args),
    }
}

fn demands_of_preset(args: &VerifyArgs) -> Result<Demands, Unable> {
    let provider = args.provider.clone().unwrap_or_else(|| "scalekit".to_owned());
    let preset = preset(&provider).ok_or_else(|| Unable::usage(unknown(&provider)))?;
    if args.secret_file.is_empty() {
        return Err(Unable::usage("no secret: give --secret-file, or --config and --route"));
    }
    let mut secrets = Vec::new();
    for path in &args.secret_file {
        let id = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        secrets.push(NamedSecret { id: id.as_ref().into(), secret: secret(path)?, not_after_ms: None });
    }
    let mut recipes = Vec::new();
    for scheme in &preset.schemes {
        recipes.push(compile(scheme, None, None).map_err(|fault| Unable::failed(fault.message))?);
    }
    Ok(Demands { route: provider.clone(), provider, recipes, secrets })
}

fn demands_of_route(args: &VerifyArgs) -> Result<Demands, Unable> {
    let given = Given::flags(RunArgs { config: args.config.clone().map(Into::into), ..RunArgs::default() });
    let config = Config::load(&given).map_err(|problems| Unable::configuration(problems.to_string()))?;
    let KeyedRoute { route, secrets } = asked_for(config.routes, args.route.as_deref())?;
    Ok(Demands {
        provider: route.provider.to_string(),
        route: route.name.to_string(),
        recipes: route.signature.schemes().iter().map(|scheme| scheme.recipe().clone()).collect(),
        secrets,
    })
}

fn asked_for(mut routes: Vec<KeyedRoute>, name: Option<&str>) -> Result<KeyedRoute, Unable> {
    let names = routes.iter().map(|keyed| &*keyed.route.name).collect::<Vec<_>>().join(", ");
    match name {
        None if routes.len() > 1 => Err(Unable::usage(format!("which route? --route is one of {names}"))),
        None => Ok(routes.remove(0)),
        Some(name) => (routes.into_iter().find(|keyed| *keyed.route.name == *name))
            .ok_or_else(|| Unable::usage(format!("no route is called {name}: write one of {names}"))),
    }
}

/// A request as it was captured; line ends may be LF or CR LF.
#[derive(Debug, PartialEq, Eq)]
pub struct Captured {
    pub method: Method,
    /// Path and query.
    pub target: Vec<u8>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Captured {
    pub fn parse(raw: &[u8]) -> Result<Self, String> {
        let (head, body) =
            split(raw).ok_or("this is no HTTP request: an empty line must follow the headers")?;
        let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut first = lines.next().unwrap_or_default().split(|b| *b == b' ');
        let (Some(method), Some(target)) = (first.next(), first.next()) else {
            return Err("this is no HTTP request: the first line is METHOD /path HTTP/1.1".to_owned());
        };
        let shown = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = HeaderMap::new();
        for line in lines {
            let colon = line.iter().position(|b| *b == b':');
            let (name, value) =
                line.split_at(colon.ok_or_else(|| format!("\"{}\" is no header", shown(line)))?);
            let name =
                HeaderName::from_bytes(name).map_err(|_| format!("\"{}\" is no header name", shown(name)))?;
            let value = HeaderValue::from_bytes(value[1..].trim_ascii())
                .map_err(|_| format!("the value of {name} cannot be read"))?;
            headers.append(name, value);
        }
        let declared =
            headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        // A capture may have a newline after the body, or be cut.
        let body = &body[..declared.unwrap_or(body.len()).min(body.len())];
        let method = Method::from_bytes(method).map_err(|_| format!("\"{}\" is no method", shown(method)))?;
        Ok(Captured { method, target: target.to_vec(), headers, body: body.to_vec() })
    }

    fn head(&self) -> Head<'_> {
        let head = Head::offline(&self.method, split_target(&self.target), &self.headers);
        Head { content_length: Some(self.body.len() as u64), ..head }
    }
}

fn split(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let find = |mark: &[u8]| raw.windows(mark.len()).position(|w| w == mark).map(|at| (at, at + mark.len()));
    let (end, start) = match (find(b"\r\n\r\n"), find(b"\n\n")) {
        (Some(crlf), Some(lf)) => crlf.min(lf),
        (one, other) => one.or(other)?,
    };
    Some((&raw[..end], &raw[start..]))
}

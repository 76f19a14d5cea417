//! `hookgate verify FILE`: judge a captured raw HTTP request offline, and say what would
//! have made its signature hold.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::BytesMut;
use clap::{Args, ValueEnum};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::sign::{Unable, parse_time, read, secret};
use super::{print, shown, trial_secret};
use crate::clock::{self, Doubt, Now};
use crate::config::flags::{Given, RunArgs};
use crate::config::provider::{
    NamedSecret, answering, handshakes, keyed, methods, preset, rotation, unknown,
};
use crate::config::route::{Elsewhere, KeyedRoute, TenantSecrets};
use crate::config::scheme::compile_on;
use crate::config::{Config, Startup};
use crate::diagnosis::task::recipes_of;
use crate::diagnosis::{Case, Other, hints};
use crate::gate::delivery::{Head, split_target};
use crate::gate::fetched::Need;
use crate::gate::fetched::document::Document;
use crate::gate::fetched::parameters::Parameters;
use crate::gate::filter::freshness;
use crate::gate::filter::signature::{Authentic, Named, Presented, Signature};
use crate::gate::handshake::{HandshakeReply, Handshakes, Unanswerable};
use crate::gate::keys::{KeyRing, Keys};
use crate::gate::parse::url::PublicUrl;
use crate::gate::reason::Reason;
use crate::gate::route::Mode;
use crate::gate::scheme::Recipe;
use crate::gate::tenant::is_tenant;
use crate::keys::tenants::ask_now;
use crate::proxy::framing::{RequestHead, Unread};
use crate::store::{Memory, Redis, ReplayStore};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The raw request: request line, headers, an empty line, body; `-` is standard input.
    /// Without a request line it is taken for a POST
    file: PathBuf,

    /// How the result is printed: `auto` is text on a terminal, and one JSON object elsewhere
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    output: Format,

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

    /// Which tenant, where the request does not tell
    #[arg(long, value_name = "NAME", requires = "config")]
    tenant: Option<String>,

    /// When it arrived: Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<i64>,

    /// The URL that the provider was given, for providers that sign it
    #[arg(long)]
    url: Option<String>,

    /// What a fetch of URL would have brought, for providers whose keys are fetched; repeatable
    #[arg(long = "key", value_name = "URL=FILE", value_parser = parse_key)]
    keys: Vec<(String, PathBuf)>,
}

fn parse_key(text: &str) -> Result<(String, PathBuf), String> {
    let (url, file) = text.split_once('=').ok_or("write https://host/path=FILE")?;
    if !url.starts_with("https://") {
        return Err(format!("{url} is no address of keys: write https://host/path=FILE"));
    }
    Ok((url.to_owned(), file.into()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Auto,
    Text,
    Json,
}

/// Exit 0 accepted, or a question that is answered, 1 refused.
pub fn verify(args: &VerifyArgs) -> ExitCode {
    let judged = match judged(args) {
        Ok(judged) => judged,
        Err(unable) => return unable.exit(),
    };
    match args.output {
        Format::Text => judged.print_text(),
        Format::Auto if std::io::stdout().is_terminal() => judged.print_text(),
        Format::Json | Format::Auto => print(shown(&judged.to_json().to_string())),
    }
    if matches!(judged.reason, Reason::Accepted | Reason::Handshake) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What came of it.
struct Judged {
    reason: Reason,
    tenant: Option<String>,
    authentic: Option<Authentic>,
    hints: Vec<String>,
}

impl Judged {
    fn refused(reason: Reason, hint: impl Into<String>) -> Self {
        Judged { reason, tenant: None, authentic: None, hints: vec![hint.into()] }
    }

    /// What the provider asks before it sends events, as the gate, or `None` as the application, answers it.
    fn question(answer: Option<Result<HandshakeReply, Unanswerable>>) -> Self {
        let (reason, told) = match answer {
            Some(Ok(HandshakeReply { visit: Some(visit), status, .. })) => (
                Reason::Handshake,
                format!("the gate confirms it at {}, and answers with {status}", visit.shown),
            ),
            Some(Ok(reply)) => (Reason::Handshake, format!("the gate answers it with {}", reply.status)),
            Some(Err(Unanswerable)) => (
                Reason::HandshakeRefused,
                "it asks with a wrong token, or for a value that is not sent back".to_owned(),
            ),
            None => (Reason::Handshake, "it is passed on: the application answers it".to_owned()),
        };
        Judged { reason, tenant: None, authentic: None, hints: vec![told] }
    }

    fn named(&self, name: fn(&Authentic) -> Option<&Named>) -> Option<&str> {
        Some(&name(self.authentic.as_ref()?)?.text)
    }

    fn to_json(&self) -> serde_json::Value {
        let authentic = self.authentic.as_ref();
        let mut json = serde_json::json!({
            "verdict": self.reason.verdict().label(),
            "reason": self.reason.label(),
            "key_id": authentic.map(|a| &**a.key_id()),
            "assurance": authentic.map(|a| a.assurance().label()),
            "event_id": self.named(Authentic::event_id),
            "event_type": self.named(Authentic::event_type),
            "hints": self.hints,
        });
        if let Some(tenant) = &self.tenant {
            json["tenant"] = tenant.as_str().into();
        }
        json
    }

    fn print_text(&self) {
        let (verdict, reason) = (self.reason.verdict().label(), self.reason.label());
        if verdict == reason {
            print(verdict);
        } else {
            print(format_args!("{verdict}: {reason}"));
        }
        let told = [
            ("tenant", self.tenant.as_deref()),
            ("key", self.authentic.as_ref().map(|a| &**a.key_id())),
            ("assurance", self.authentic.as_ref().map(|a| a.assurance().label())),
            ("event id", self.named(Authentic::event_id)),
            ("event type", self.named(Authentic::event_type)),
        ];
        for (what, told) in told {
            if let Some(told) = told {
                print(format_args!("{what}: {}", shown(told)));
            }
        }
        for hint in &self.hints {
            print(format_args!("hint: {}", shown(hint)));
        }
    }
}

/// What a request is judged by.
struct Demands {
    /// The tenant that the secrets are of, on a route that has some.
    tenant: Option<String>,
    /// That there is no such tenant.
    nobody: Option<String>,
    provider: String,
    route: String,
    methods: Vec<Method>,
    recipes: Vec<Recipe>,
    secrets: Vec<NamedSecret>,
    handshakes: Handshakes,
    /// The other routes of the file, with what they take.
    others: Vec<(Vec<Recipe>, KeyedRoute)>,
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

fn judged(args: &VerifyArgs) -> Result<Judged, Unable> {
    let url: Option<PublicUrl> = args.url.as_deref().map(str::parse).transpose().map_err(Unable::usage)?;
    let captured = Captured::parse(&read(&args.file)?).map_err(|message| Unable::usage(shown(&message)))?;
    let mut demands = demands(args, &captured)?;
    demands.recipes = demands.recipes.into_iter().map(|recipe| recipe.at(url.as_ref())).collect();
    if let Some(recipe) = demands.recipes.iter().find(|recipe| recipe.needs_url() && recipe.url.is_none()) {
        let place = &recipe.signature.from[0];
        return Err(Unable::usage(format!("{} signs the URL, in {place}: give --url", demands.provider)));
    }
    if let Err((reason, hint)) = &captured.framing {
        return Ok(Judged::refused(*reason, hint));
    }
    let head = captured.head();
    let wall_ms = args.now.unwrap_or_else(|| clock::now().wall_ms);
    let now = Now { wall_ms, mono: std::time::Duration::ZERO, doubt: Doubt::None };

    let (signature, rotation) = (demands.signature(), rotation(&demands.secrets));
    let handshakes = &demands.handshakes;
    if let Some(answer) = handshakes.answer_unsigned(&head, &captured.body, || signature.is_present(&head)) {
        return Ok(Judged::question(answer));
    }
    let usable = |id: &str| rotation.is_usable(id, now);
    let given = Published { files: given_keys(&args.keys)?, now_ms: wall_ms };
    let verified = signature.presented(&head).and_then(|presented| {
        let keys = given.keys(&signature, &presented, &head, &captured.body);
        if matches!(keys, Keys::Unavailable) {
            return Err(Reason::StoreUnavailable);
        }
        signature.verify_by(&keys, &presented, &demands.route, &head, &captured.body, usable)
    });
    // A signature that anyone can ask for proves nothing.
    let verified = match verified {
        Ok(_) if handshakes.could_have_signed(&captured.body) => Err(Reason::SignatureMismatch),
        verified => verified,
    };
    let authentic = verified.as_ref().ok().cloned();
    let reason = match verified.and_then(|authentic| freshness::check(authentic, now)) {
        Ok(fresh) => {
            let its = fresh.authentic().key_id();
            let key = || Some(&handshakes.keys().iter().find(|(id, _)| id == its)?.1);
            match handshakes.answer_signed(&head, &captured.body, key) {
                Some(answer) => return Ok(Judged { authentic, ..Judged::question(Some(answer)) }),
                None => Reason::Accepted,
            }
        }
        Err(reason) => reason,
    };
    let mut hints = if reason.is_signature() {
        let Demands { provider, recipes, secrets, others, .. } = &demands;
        let others: Vec<_> = others
            .iter()
            .map(|(recipes, other)| Other { route: &other.route.name, recipes, secrets: &other.secrets })
            .collect();
        hints(&Case { provider, recipes, secrets, others: &others, head: &head, body: &captured.body, now })
    } else {
        Vec::new()
    };
    if reason == Reason::StoreUnavailable
        && let Ok(presented) = signature.presented(&head)
    {
        hints.extend(given.lacks(&signature, &presented, &head, &captured.body));
    }
    hints.extend(demands.nobody.take());
    // The gate looks at the method first; what else is wrong is told as well.
    if !demands.methods.contains(head.method) {
        let taken: Vec<_> = demands.methods.iter().map(Method::as_str).collect();
        hints
            .insert(0, format!("{} sends {}, this is {}", demands.provider, taken.join(" or "), head.method));
        let reason = Reason::MethodNotAllowed;
        return Ok(Judged { reason, tenant: demands.tenant, authentic: None, hints });
    }
    Ok(Judged { reason, tenant: demands.tenant, authentic, hints })
}

/// What was given instead of fetches.
struct Published {
    files: Vec<(String, Vec<u8>)>,
    now_ms: i64,
}

fn given_keys(keys: &[(String, PathBuf)]) -> Result<Vec<(String, Vec<u8>)>, Unable> {
    keys.iter().map(|(url, file)| Ok((url.clone(), read(file)?))).collect()
}

impl Published {
    fn file(&self, url: &str) -> Option<&[u8]> {
        self.files.iter().find(|(known, _)| known == url).map(|(_, text)| text.as_slice())
    }

    /// The keys that judge a delivery: those of the files, where the schemes have theirs from addresses.
    fn keys(&self, signature: &Signature, presented: &Presented, head: &Head<'_>, body: &[u8]) -> Keys {
        let schemes = signature.schemes();
        if schemes.iter().all(|scheme| scheme.recipe().keys.is_none()) {
            return Keys::OfRoute;
        }
        let mut ring = KeyRing { schemes: vec![Vec::new(); schemes.len()], ..KeyRing::default() };
        let mut lacks = false;
        for (n, need) in signature.needs(presented, head, body) {
            let recipe = schemes[n].recipe();
            let (Need::Documents(wanted), Some(place)) = (&need, &recipe.keys) else {
                if let Need::Chain(chain) = &need {
                    ring.schemes[n] = signature.of_chain(n, chain, self.now_ms);
                }
                continue;
            };
            for wanted in wanted {
                match self.file(wanted.document()).and_then(|text| Document::read(text, &place.form)) {
                    Some(document) => {
                        ring.schemes[n].extend(wanted.choose(&document, recipe.algorithm, self.now_ms));
                    }
                    None => lacks = true,
                }
            }
        }
        if lacks && ring.schemes.iter().all(Vec::is_empty) {
            Keys::Unavailable
        } else {
            Keys::Found(Arc::new(ring))
        }
    }

    /// The addresses that are needed and for which there is no file with a key.
    fn lacks(
        &self,
        signature: &Signature,
        presented: &Presented,
        head: &Head<'_>,
        body: &[u8],
    ) -> Vec<String> {
        let needs = signature.needs(presented, head, body).into_iter();
        let wanted = needs.filter_map(|(_, need)| match need {
            Need::Documents(wanted) => Some(wanted),
            Need::Chain(_) => None,
        });
        let mut lacks: Vec<_> = wanted
            .flatten()
            .map(|wanted| wanted.document().to_owned())
            .map(|url| match self.file(&url) {
                Some(_) => format!("the file given for {url} holds no key"),
                None => format!("its key lies at {url}: fetch that, and give --key {url}=FILE"),
            })
            .collect();
        lacks.dedup();
        lacks
    }
}

fn demands(args: &VerifyArgs, captured: &Captured) -> Result<Demands, Unable> {
    match &args.config {
        Some(_) => demands_of_route(args, captured),
        None => demands_of_preset(args),
    }
}

fn demands_of_preset(args: &VerifyArgs) -> Result<Demands, Unable> {
    let provider = args.provider.clone().unwrap_or_else(|| "scalekit".to_owned());
    let preset = preset(&provider).ok_or_else(|| Unable::usage(unknown(&provider)))?;
    let fetched = preset.schemes.iter().any(|scheme| scheme.keys.is_some()) && args.secret_file.is_empty();
    if let Some((key, need)) = preset.needs.iter().find(|(_, need)| fetched && need.is_demanded()) {
        let message = format!(
            "{provider} needs {key}, {}: write a route with it, and give --config and --route",
            need.says
        );
        return Err(Unable::usage(message));
    }
    let mut secrets = Vec::new();
    for path in &args.secret_file {
        let id = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        secrets.push(NamedSecret { id: id.as_ref().into(), secret: secret(path)?, not_after_ms: None });
    }
    if secrets.is_empty() && !fetched {
        let trial = trial_secret().ok_or_else(|| {
            Unable::usage("no secret: give --secret-file, or --config and --route, or HOOKGATE_SECRET")
        })?;
        secrets.push(NamedSecret { id: "env".into(), secret: trial, not_after_ms: None });
    }
    let mut recipes = Vec::new();
    let mut defaults = Parameters::default();
    for (name, need) in &preset.needs {
        defaults.set(name, need.default.iter().cloned().collect());
    }
    for scheme in &preset.schemes {
        let mut recipe =
            compile_on(scheme, None, None, &defaults).map_err(|fault| Unable::failed(fault.message))?;
        if !fetched {
            recipe.keys = None;
        }
        recipes.push(recipe);
    }
    let handshakes = handshakes(&preset, answering(recipes.first(), &secrets));
    Ok(Demands {
        tenant: None,
        nobody: None,
        route: provider.clone(),
        methods: methods(&preset.methods).map_err(Unable::failed)?,
        handshakes: handshakes.map_err(|fault| Unable::failed(fault.message))?,
        provider,
        recipes,
        secrets,
        others: Vec::new(),
    })
}

fn demands_of_route(args: &VerifyArgs, captured: &Captured) -> Result<Demands, Unable> {
    let (keyed, others) = route_of_file(args.config.as_ref(), args.route.as_deref())?;
    let tenant = tenant_of(&keyed, args.tenant.as_deref(), captured)?;
    let route = keyed.route;
    // One that does not exist is judged as the gate judges it: by no key at all.
    let (secrets, nobody) = match (&tenant, &keyed.elsewhere) {
        (Some(tenant), Some(Elsewhere::Tenants(from))) => {
            match secrets_of_tenant(args.config.as_ref(), from, &route.name, tenant)? {
                Ok(found) => (found, None),
                Err(nobody) => (Vec::new(), Some(nobody)),
            }
        }
        _ => (keyed.secrets, None),
    };
    if route.mode == Mode::Pass {
        let message = format!("route {} passes on what comes: there is nothing to verify", route.name);
        return Err(Unable::usage(message));
    }
    Ok(Demands {
        tenant,
        nobody,
        provider: route.provider.to_string(),
        route: route.name.to_string(),
        methods: route.methods.clone(),
        recipes: recipes_of(&route),
        secrets,
        handshakes: route.handshakes.clone(),
        others: others.into_iter().map(|other| (recipes_of(&other.route), other)).collect(),
    })
}

/// Whose delivery it is, on a route that has tenants.
fn tenant_of(keyed: &KeyedRoute, said: Option<&str>, captured: &Captured) -> Result<Option<String>, Unable> {
    let route = &keyed.route;
    let told =
        || Some(route.named(captured.head()).tenant?.to_owned()).or_else(|| route.named_in(&captured.body));
    match (&route.tenant, said) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(Unable::usage(format!("route {} has no tenants: leave --tenant out", route.name)))
        }
        (Some(_), Some(said)) if is_tenant(said.as_bytes()) => Ok(Some(said.to_owned())),
        (Some(_), Some(_)) => {
            Err(Unable::usage("--tenant can be no tenant: names are [A-Za-z0-9._-], at most 128".to_owned()))
        }
        (Some(place), None) => told().map(Some).ok_or_else(|| {
            Unable::usage(format!(
                "whose delivery is it? the request names no tenant ({place}): give --tenant"
            ))
        }),
    }
}

/// The secrets of a tenant, as the gate would look them up now; or that there is no such tenant.
pub fn secrets_of_tenant(
    file: Option<&PathBuf>,
    from: &TenantSecrets,
    route: &str,
    tenant: &str,
) -> Result<Result<Vec<NamedSecret>, String>, Unable> {
    let store = lone_store(&config_of_file(file)?.startup);
    let found = ask_now(route, from, store, tenant).map_err(Unable::failed)?;
    Ok(if found.is_empty() {
        Err(format!("there is no tenant {tenant} in {}", from.place))
    } else {
        Ok(found)
    })
}

/// The store that gates share, or one that remembers nothing: for a look-up without a gate.
pub fn lone_store(startup: &Startup) -> ReplayStore {
    match startup.shared_store.clone() {
        Some(settings) => ReplayStore::Redis(Redis::new(settings, startup.replay, None)),
        None => ReplayStore::Memory(Memory::new(startup.replay, startup.stale_after, 1)),
    }
}

fn config_of_file(file: Option<&PathBuf>) -> Result<Config, Unable> {
    let args = RunArgs { config: file.cloned().map(Into::into), ..RunArgs::default() };
    let given = Given { secret: trial_secret(), ..Given::flags(args) };
    Config::load(&given).map_err(|problems| Unable::configuration(problems.to_string()))
}

/// The route of a configuration file that is meant, and the others.
pub fn route_of_file(
    file: Option<&PathBuf>,
    name: Option<&str>,
) -> Result<(KeyedRoute, Vec<KeyedRoute>), Unable> {
    asked_for(config_of_file(file)?.routes, name)
}

fn asked_for(
    mut routes: Vec<KeyedRoute>,
    name: Option<&str>,
) -> Result<(KeyedRoute, Vec<KeyedRoute>), Unable> {
    let names = routes.iter().map(|keyed| &*keyed.route.name).collect::<Vec<_>>().join(", ");
    let index = match name {
        None if routes.len() > 1 => {
            return Err(Unable::usage(format!("which route? --route is one of {names}")));
        }
        None => 0,
        Some(name) => (routes.iter().position(|keyed| *keyed.route.name == *name))
            .ok_or_else(|| Unable::usage(format!("no route is called {name}: write one of {names}")))?,
    };
    let asked = routes.remove(index);
    Ok((asked, routes))
}

/// A request as it was captured; line ends may be LF or CR LF.
#[derive(Debug, PartialEq, Eq)]
pub struct Captured {
    pub method: Method,
    /// Path and query.
    pub target: Vec<u8>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Whether the gate would read such a request at all, and if not, what is to be said of it.
    pub framing: Result<(), (Reason, String)>,
}

impl Captured {
    pub fn parse(raw: &[u8]) -> Result<Self, String> {
        let (head, body) =
            split(raw).ok_or("this is no HTTP request: an empty line must follow the headers")?;
        let lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut lines: Vec<_> = lines.skip_while(|line| line.is_empty()).collect();
        // What is copied from a console begins with the headers.
        if lines.first().is_some_and(|line| is_header(line)) {
            lines.insert(0, b"POST / HTTP/1.1");
        }
        let mut first = lines.first().copied().unwrap_or_default().split(|b| *b == b' ');
        let (Some(method), Some(target)) = (first.next(), first.next()) else {
            return Err("this is no HTTP request: the first line is METHOD /path HTTP/1.1".to_owned());
        };
        let shown = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let method =
            Method::from_bytes(method).map_err(|_| format!("\"{}\" is not a method", shown(method)))?;
        let mut headers = HeaderMap::new();
        for line in &lines[1..] {
            let colon = line.iter().position(|b| *b == b':');
            let (name, value) =
                line.split_at(colon.ok_or_else(|| format!("\"{}\" is not a header", shown(line)))?);
            let name = HeaderName::from_bytes(name)
                .map_err(|_| format!("\"{}\" is not a header name", shown(name)))?;
            let value = HeaderValue::from_bytes(value[1..].trim_ascii())
                .map_err(|_| format!("the value of {name} cannot be read"))?;
            headers.append(name, value);
        }
        let mut framing = judged_framing(&lines, &headers);
        let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let body = if headers.contains_key(TRANSFER_ENCODING) {
            // A tool that captures may have put the chunks together already.
            match dechunked(body) {
                Ok(body) => body,
                Err(Chunks::None) => body.to_vec(),
                Err(Chunks::Cut) => {
                    let hint = "the chunked body is cut off: capture it to its last chunk, 0".to_owned();
                    framing = framing.and(Err((Reason::FramingInvalid, hint)));
                    body.to_vec()
                }
            }
        } else {
            // A capture may have a newline after the body, or be cut.
            body[..declared.unwrap_or(body.len()).min(body.len())].to_vec()
        };
        let target = target.to_vec();
        Ok(Captured { method, target, headers, body, framing })
    }

    fn head(&self) -> Head<'_> {
        let head = Head::offline(&self.method, split_target(&self.target), &self.headers);
        Head { content_length: Some(self.body.len() as u64), ..head }
    }
}

/// `Name: value`, and no `METHOD /path HTTP/1.1`.
fn is_header(line: &[u8]) -> bool {
    let name = line.iter().position(|b| *b == b':').map(|colon| &line[..colon]);
    name.is_some_and(|name| HeaderName::from_bytes(name).is_ok())
}

/// The head, judged as the gate does. What a capture often leaves out is not held against it.
fn judged_framing(lines: &[&[u8]], headers: &HeaderMap) -> Result<(), (Reason, String)> {
    let mut head = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        // Tools name the version in their own way, such as HTTP/2.
        let version = line.windows(6).rposition(|w| w.eq_ignore_ascii_case(b" HTTP/")).filter(|_| n == 0);
        match version.map(|at| line.split_at(at)) {
            Some((line, version)) if !version.ends_with(b"1.0") => {
                head.extend_from_slice(line);
                head.extend_from_slice(b" HTTP/1.1");
            }
            None if n == 0 => {
                head.extend_from_slice(line);
                head.extend_from_slice(b" HTTP/1.1");
            }
            _ => head.extend_from_slice(line),
        }
        head.extend_from_slice(b"\r\n");
        if n == 0 && !headers.contains_key(HOST) {
            head.extend_from_slice(b"Host: captured\r\n");
        }
    }
    head.extend_from_slice(b"\r\n");
    let judged = RequestHead::take(&mut BytesMut::from(&head[..]));
    judged.map(drop).map_err(|Unread { reason, .. }| {
        let hint = match reason {
            Reason::MethodNotAllowed => "CONNECT asks for a tunnel, and is no delivery",
            Reason::HeadersTooLarge => "the gate takes no head of that size",
            _ => {
                "two servers could read this head in two ways (Host, Content-Length, Transfer-Encoding, Connection, \
                 Upgrade, Expect or the first line), so the gate answers 400"
            }
        };
        (reason, hint.to_owned())
    })
}

/// Why a body is not put together from chunks.
enum Chunks {
    /// It does not begin with one.
    None,
    Cut,
}

/// The body that was sent in chunks (RFC 9112, section 7.1); line ends may be LF.
fn dechunked(mut rest: &[u8]) -> Result<Vec<u8>, Chunks> {
    let mut body = Vec::new();
    let mut first = true;
    loop {
        let amiss = if first { Chunks::None } else { Chunks::Cut };
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let size = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(size).ok().filter(|size| !size.starts_with('+'));
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return Err(amiss);
        };
        rest = rest.get(end + 1..).unwrap_or_default();
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).ok_or(Chunks::Cut)?);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).ok_or(Chunks::Cut)?;
        first = false;
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

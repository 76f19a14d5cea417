//! `hookgate keys`: which keys a running gate has, from where, and how old they are; and a copy of those that
//! providers publish, for gates that have no way out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::control::{Failure, Output, ask};
use super::run::INVALID_CONFIGURATION;
use super::{print, shown};
use crate::config::Config;
use crate::config::flags::{Given, RunArgs};
use crate::config::located::Located;
use crate::config::{Origin, units::Span};
use crate::keys::copy::{Copied, Plan};
use crate::keys::told::{Document, Named, Published, RouteKeys, Tenant, Whence, published};
use crate::ops::control;
use crate::ops::keys::{Answer, Request};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct KeysArgs {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Fetch what providers publish, and put it where keys.dir leads
    Fetch(FetchArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Of this tenant, if it is remembered
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// json prints one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// The control socket of the gate, as its --control-socket says
    #[arg(long, value_name = "PATH", env = "HOOKGATE_CONTROL_SOCKET", required = true)]
    control_socket: Option<PathBuf>,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: Span,
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// Address of a key that deliveries name, besides those that are known
    #[arg(value_name = "URL")]
    urls: Vec<String>,

    /// The configuration of the gates that are to have the copy
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,

    /// Where to put it; made if it is not there [default: keys.dir of the configuration]
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

/// Exit 0, or 1 if the gate cannot be asked or something could not be fetched, 2 for an address that no route may
/// ask, 78 for a wrong configuration.
pub fn keys(args: &KeysArgs) -> ExitCode {
    let done = match &args.what {
        Some(What::Fetch(args)) => fetch(args),
        None => list(&args.list),
    };
    done.unwrap_or_else(Failure::exit)
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let socket: &Path = args.control_socket.as_deref().unwrap_or(Path::new(""));
    let request = Request { route: args.route.clone(), tenant: args.tenant.clone() };
    match ask(socket, args.timeout, &control::Request::Keys(request))? {
        Answer::Refused { message } => Err(Failure::told(message)),
        Answer::Listed { routes } => {
            for route in &routes {
                match args.output {
                    Output::Json => print(serde_json::json!(route)),
                    Output::Text => as_text(route).iter().for_each(|line| print(shown(line))),
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn as_text(RouteKeys { route, provider, from }: &RouteKeys) -> Vec<String> {
    let mut lines = Vec::new();
    match from {
        Whence::Files { files } => {
            lines.push(format!("{route} ({provider}): keys of its own"));
            lines.extend(files.iter().map(of_secret));
            if files.is_empty() {
                lines.push("  none".to_owned());
            }
        }
        Whence::Published { addresses, documents } => {
            lines.push(format!("{route} ({provider}): keys that are published at {}", addresses.join(", ")));
            for document in documents {
                lines.push(format!("  {}", of_document(document)));
                lines.extend(document.keys.iter().map(of_published));
            }
        }
        Whence::Tenants { place, up, remembered, tenant } => {
            let answers = if *up { "" } else { ", which does not answer" };
            lines.push(format!(
                "{route} ({provider}): keys of each tenant in {place}{answers}; {remembered} remembered"
            ));
            match tenant {
                Some(Tenant { name, exists: false, age_seconds, .. }) => {
                    lines.push(format!("  {name} is no tenant, as was said {} ago", ago(*age_seconds)));
                }
                Some(Tenant { name, age_seconds, keys, .. }) => {
                    lines.push(format!("  {name}, asked for {} ago", ago(*age_seconds)));
                    lines.extend(keys.iter().map(of_secret));
                }
                None => {}
            }
        }
    }
    lines
}

fn of_document(
    Document { url, age_seconds, next_fetch_seconds, serves_seconds, fault, .. }: &Document,
) -> String {
    let next = ago(*next_fetch_seconds);
    let known = match age_seconds {
        Some(age) => {
            format!("fetched {} ago, next in {next}, serves for {}", ago(*age), ago(*serves_seconds))
        }
        None => format!("never fetched, next in {next}"),
    };
    let fault = fault.as_ref().map_or_else(String::new, |fault| format!("; {fault}"));
    format!("{url}  {known}{fault}")
}

fn of_published(Published { id, kind, fingerprint, not_after }: &Published) -> String {
    let id = id.as_deref().unwrap_or("-");
    format!("    {id}  {kind}  sha256 {fingerprint}{}", until(not_after.as_ref()))
}

fn of_secret(Named { id, fingerprint, not_after }: &Named) -> String {
    format!("    {id}  {fingerprint}{}", until(not_after.as_ref()))
}

fn until(not_after: Option<&String>) -> String {
    not_after.map_or_else(String::new, |end| format!("  until {end}"))
}

/// The two largest units of it.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn fetch(args: &FetchArgs) -> Result<ExitCode, Failure> {
    if let Some(dir) = &args.dir {
        let made = std::fs::create_dir_all(dir);
        made.map_err(|error| Failure::told(format!("cannot make {}: {error}", dir.display())))?;
    }
    let mut run = RunArgs { config: Some(args.config.clone().into()), ..RunArgs::default() };
    run.checks.keys.dir = args.dir.clone().map(|dir| Located::new(dir, Origin::Flag));
    let config = match Config::load(&Given::flags(run)) {
        Ok(config) => config,
        Err(problems) => {
            // A problem has lines of its own.
            problems.to_string().lines().for_each(|line| eprintln!("{}", shown(line)));
            return Ok(ExitCode::from(INVALID_CONFIGURATION));
        }
    };
    let Some(dir) = config.startup.keys.dir.clone() else {
        return Err(Failure::new(2, "where to? give --dir, or write keys: { dir: … }"));
    };
    let plan = Plan::new(&config.routes, &args.urls).map_err(|message| Failure::new(2, message))?;
    for (route, address) in &plan.open {
        print(format_args!(
            "note: route {route}: deliveries name the rest of {address}; give the whole URL to have it"
        ));
    }
    if plan.is_empty() {
        return Err(Failure::told("no address is known: no route has keys that are published at one"));
    }
    let copied = plan.fill(&dir, config.startup.keys);
    let copied = copied.map_err(|error| Failure::told(error.to_string()))?;
    let mut whole = true;
    for Copied { url, document } in copied {
        match document {
            Ok(document) => {
                print(format_args!("{url}  {}", count(document.keys.len())));
                for key in &document.keys {
                    print(shown(&of_published(&published(key))));
                }
            }
            Err(why) => {
                whole = false;
                eprintln!("{}", shown(&format!("{url}: {why}; what was there before is left alone")));
            }
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

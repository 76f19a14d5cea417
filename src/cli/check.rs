//! `hookgate check`: load everything as `run` does, and say what would be in effect.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::print;
use super::run::INVALID_CONFIGURATION;
use super::verify::lone_store;
use crate::config::flags::{Given, RunArgs};
use crate::config::memory::Bound;
use crate::config::route::{Elsewhere, KeyedRoute};
use crate::config::{Config, Problem, Problems};
use crate::diagnosis::task::recipes_of;
use crate::inbox::When;
use crate::keys::tenants::{Seen, Survey, at_once, survey};
use crate::store::{Memory, ReplayStore};
use crate::telemetry::event::IN_THE_STORE;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// How the result is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text", env = "HOOKGATE_OUTPUT")]
    pub output: Output,

    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

pub fn check(given: &Given, output: Output) -> ExitCode {
    told(&Config::load(given).and_then(with_replay_file).map(with_tenants).map(with_shared_inbox), output)
}

/// What is wrong before anything is loaded.
pub fn refuse(problems: Problems, output: Output) -> ExitCode {
    told(&Err(problems), output)
}

fn told(loaded: &Result<Config, Problems>, output: Output) -> ExitCode {
    let code = if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(INVALID_CONFIGURATION) };
    match output {
        Output::Text => print_text(loaded),
        Output::Json => print_json(loaded),
    }
    code
}

/// Reads what the gate would remember. A reload does not do that, so loading does not.
fn with_replay_file(mut config: Config) -> Result<Config, Problems> {
    let startup = &config.startup;
    let Some(path) = &startup.replay_file else { return Ok(config) };
    let memory = Memory::new(startup.replay, startup.stale_after, startup.replay_capacity);
    let told = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    match memory.peek(path) {
        Ok(judged) => config.notices.push(format!("replay.file: {}", told(&judged.told(memory.entries())))),
        Err(fault) => {
            let key = "replay.file".to_owned();
            return Err(Problems(vec![Problem { place: None, key, message: told(&fault) }]));
        }
    }
    Ok(config)
}

/// Looks at the tenants that there are. The gate does so when a delivery comes, so what is wrong with them, or
/// keeps them from being looked at here, makes the configuration no worse.
fn with_tenants(mut config: Config) -> Config {
    let startup = &config.startup;
    for KeyedRoute { route, elsewhere, .. } in &config.routes {
        let Some(Elsewhere::Tenants(from)) = elsewhere else { continue };
        let (name, place) = (&route.name, &from.place);
        let mut tell = |what: std::fmt::Arguments<'_>| config.notices.push(format!("route {name}: {what}"));
        match survey(name, from, lone_store(startup), &recipes_of(route)) {
            Err(why) => tell(format_args!(
                "tenants cannot be looked up from here: {why}; where the gate cannot either, it answers 503"
            )),
            Ok(Seen::Answers(wrong)) => {
                tell(format_args!("tenants are asked for in {place}, which answers"));
                if let Some(wrong) = wrong {
                    tell(format_args!("tenants: {wrong}"));
                }
            }
            Ok(Seen::Tenants(Survey { tenants, samples, wrong, more, is_part, .. })) => {
                let what = if tenants == 1 { "tenant" } else { "tenants" };
                let at_least = if is_part { "at least " } else { "" };
                let more_of_them = if tenants > samples.len() { ", …" } else { "" };
                let shown = if samples.is_empty() {
                    String::new()
                } else {
                    format!(" ({}{more_of_them})", samples.join(", "))
                };
                tell(format_args!("{at_least}{tenants} {what} in {place}{shown}"));
                for what in wrong {
                    tell(format_args!("tenants: {what}"));
                }
                if more > 0 {
                    tell(format_args!("tenants: {more} more of such"));
                }
            }
        }
    }
    config
}

/// What "durable" means in the store that gates share is the server's to say.
fn with_shared_inbox(mut config: Config) -> Config {
    let stores = config.routes.iter().any(|keyed| keyed.inbox.on != When::Never);
    let ReplayStore::Redis(redis) = lone_store(&config.startup) else { return config };
    if stores {
        // A first call may not wait for as long as a handshake takes.
        let asked = at_once(async {
            let first = redis.durability().await;
            if first.is_ok() { first } else { redis.durability().await }
        });
        config.notices.push(match asked {
            Ok(Ok(durability)) => format!("{IN_THE_STORE} {durability}"),
            Ok(Err(_)) | Err(_) => {
                "the inbox is in the shared store, which cannot be asked from here how durable an event is there; the \
                 gate says so when it starts (hookgate.inbox)"
                    .to_owned()
            }
        });
    }
    config
}

fn print_text(loaded: &Result<Config, Problems>) {
    match loaded {
        Ok(config) => {
            let width = config.settings.iter().map(|s| s.key.len()).max().unwrap_or_default();
            for setting in &config.settings {
                print(format_args!("{:width$}  {}  [{}]", setting.key, setting.value, setting.origin));
            }
            for route in config.routes_in_words() {
                print(format_args!("route: {route}"));
            }
            print(format_args!("memory: {}", bound(config)));
            for notice in config.notices.iter().cloned().chain(config.awaits()) {
                print(format_args!("note: {notice}"));
            }
            print(match config.awaits().count() {
                0 => "ok: the configuration is valid".to_owned(),
                1 => "ok: the configuration is valid, but a secret is missing".to_owned(),
                n => format!("ok: the configuration is valid, but {n} secrets are missing"),
            });
        }
        Err(problems) => eprintln!("{problems}"),
    }
}

/// In bytes.
fn memory_json(bound: Bound) -> serde_json::Value {
    serde_json::json!({
        "most": bound.total(),
        "program": bound.base,
        "routes": bound.routes,
        "connections": bound.connections,
        "buffered": bound.buffered,
        "replay": bound.replay,
    })
}

fn bound(config: &Config) -> Bound {
    Bound::of(&config.startup, &config.routes)
}

fn print_json(loaded: &Result<Config, Problems>) {
    let json = match loaded {
        Ok(config) => serde_json::json!({
            "valid": true,
            "settings": config.settings.iter().map(|s| serde_json::json!({
                "key": s.key,
                "value": s.value,
                "origin": s.origin.to_string(),
            })).collect::<Vec<_>>(),
            "routes": config.routes_in_words().collect::<Vec<_>>(),
            "memory": memory_json(bound(config)),
            "notices": config.notices.iter().cloned().chain(config.awaits()).collect::<Vec<_>>(),
        }),
        Err(problems) => serde_json::json!({
            "valid": false,
            "problems": problems.0.iter().map(|p| serde_json::json!({
                "file": p.place.as_ref().map(|at| at.file.display().to_string()),
                "line": p.place.as_ref().map(|at| at.line),
                "column": p.place.as_ref().map(|at| at.column),
                "key": p.key,
                "message": p.message,
            })).collect::<Vec<_>>(),
        }),
    };
    print(format_args!("{json:#}"));
}

//! `hookgate run`: serve.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::config::flags::Given;
use crate::config::process::{Lifecycle, LogFormat, LogLevel};
use crate::config::{Config, Startup};
use crate::server::{Ended, Server, Stop};
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;
use crate::telemetry::log::{Format, Severity, Sink, adopt_library_logs};
use crate::telemetry::metrics::Metrics;

/// `EX_CONFIG` of sysexits(3).
pub const INVALID_CONFIGURATION: u8 = 78;

pub fn run(given: &Given, early: io::Result<Early>) -> ExitCode {
    let (config, signals) = match early.map(|early| early.load(given)) {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(code)) => return code,
        Err(error) => return without_threads(&error),
    };
    match runtime(config.startup.lifecycle.threads) {
        Ok(runtime) => runtime.block_on(serve(config, given, signals)),
        Err(error) => without_threads(&error),
    }
}

fn without_threads(error: &io::Error) -> ExitCode {
    eprintln!("cannot start threads: {error}");
    ExitCode::FAILURE
}

/// What is there before the command line is understood: whoever stops or reloads a gate that has
/// only just begun is heard.
pub struct Early {
    runtime: Runtime,
    signals: Signals,
}

impl Early {
    pub fn new() -> io::Result<Self> {
        let runtime = runtime(1)?;
        let signals = runtime.block_on(async { Signals::new() })?;
        Ok(Early { runtime, signals })
    }

    /// Reads the configuration, unless that is to end before: nothing was served, so nothing is cut.
    fn load(self, given: &Given) -> Result<(Config, Signals), ExitCode> {
        let Early { runtime, mut signals } = self;
        let given = given.clone();
        let loaded = runtime.block_on(async {
            tokio::select! {
                loaded = tokio::task::spawn_blocking(move || Config::load(&given)) => Some(loaded),
                _ = stop(&mut signals.terminate, &mut signals.interrupt) => None,
            }
        });
        runtime.shutdown_background(); // a file that keeps its reader waiting keeps nobody else
        match loaded {
            Some(Ok(Ok(config))) => Ok((config, signals)),
            Some(Ok(Err(problems))) => {
                eprintln!("{problems}");
                Err(ExitCode::from(INVALID_CONFIGURATION))
            }
            Some(Err(_panic)) => Err(ExitCode::FAILURE),
            None => Err(ExitCode::SUCCESS),
        }
    }
}

/// One thread needs no scheduler that moves work between threads.
pub fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build()
}

async fn serve(config: Config, given: &Given, signals: Signals) -> ExitCode {
    let Lifecycle { shutdown_delay, shutdown_timeout, .. } = config.startup.lifecycle;
    let telemetry = telemetry(&config.startup);
    adopt_library_logs(Arc::clone(&telemetry.log));
    count_panics(&telemetry);
    for notice in &config.notices {
        telemetry.tell(Event::Notice(notice));
    }
    let routes: Vec<_> = config.routes_in_words().collect();
    let mut end = None;
    let code = match Server::bind(config, given.clone(), Arc::clone(&telemetry)) {
        Ok(server) => {
            announce(&server, &routes, &telemetry);
            let Signals { mut terminate, mut interrupt, hangup } = signals;
            let stop = async {
                let how = stop(&mut terminate, &mut interrupt).await;
                tokio::spawn(give_up(terminate, interrupt));
                let delay = if how == Stop::Gracefully { shutdown_delay } else { Duration::ZERO };
                end = Some(clock::now().mono + delay + shutdown_timeout);
                how
            };
            match server.reloading_on(hangup).run(stop).await {
                Ended::Idle => ExitCode::SUCCESS,
                Ended::Cut => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("{error}");
            let invalid = error.is_of_configuration();
            if invalid { ExitCode::from(INVALID_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    };
    telemetry.close(end.map_or(shutdown_timeout, |end| end.saturating_sub(clock::now().mono)));
    code
}

fn telemetry(startup: &Startup) -> Arc<Telemetry> {
    let metrics = Metrics::new();
    let format = match startup.lifecycle.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Auto if io::stdout().is_terminal() => Format::Text,
        LogFormat::Json | LogFormat::Auto => Format::Json,
    };
    let least = match startup.lifecycle.log_level {
        LogLevel::Error => Severity::Error,
        LogLevel::Warn => Severity::Warn,
        LogLevel::Info => Severity::Info,
        LogLevel::Debug => Severity::Debug,
    };
    let log = Sink::new(output(), format, least, &metrics);
    #[cfg(feature = "otel")]
    if let Some(endpoint) = &startup.lifecycle.otlp_endpoint {
        return Telemetry::exporting(metrics, log, endpoint.clone());
    }
    Telemetry::new(metrics, log)
}

/// A panic costs one connection; it is counted and told.
fn count_panics(telemetry: &Arc<Telemetry>) {
    let telemetry = Arc::clone(telemetry);
    std::panic::set_hook(Box::new(move |panic| {
        telemetry.metrics.panicked();
        telemetry.tell(Event::Panic { at: panic.location() });
    }));
}

fn announce(server: &Server, routes: &[String], telemetry: &Telemetry) {
    let (plain, tls) = (&server.addresses(), &server.tls_addresses());
    telemetry.tell(Event::Start { plain, tls, ops: server.ops_address() });
    for route in routes {
        telemetry.tell(Event::Route(route));
    }
}

/// Without the buffer of the standard library, which may keep lines back.
fn output() -> Box<dyn Write + Send> {
    let stdout = io::stdout();
    match stdout.as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(stdout),
    }
}

/// What the process is told from outside. Nothing that is told before somebody listens is lost.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// SIGTERM drains after the delay, Ctrl-C at once.
async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> Stop {
    tokio::select! {
        _ = terminate.recv() => Stop::Gracefully,
        _ = interrupt.recv() => Stop::WithoutDelay,
    }
}

/// A second signal ends the process.
async fn give_up(mut terminate: Signal, mut interrupt: Signal) {
    let code = tokio::select! {
        _ = terminate.recv() => 143,
        _ = interrupt.recv() => 130,
    };
    std::process::exit(code);
}

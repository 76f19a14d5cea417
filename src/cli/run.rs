//! `hookgate run`: serve.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::flags::Given;
use crate::config::process::{LogFormat, LogLevel};
use crate::config::{Config, Startup};
use crate::server::{Ended, Server, Stop};
use crate::telemetry::Telemetry;
use crate::telemetry::log::{Format, Severity, Sink, adopt_library_logs};
use crate::telemetry::metrics::Metrics;

/// `EX_CONFIG` of sysexits(3).
pub const INVALID_CONFIGURATION: u8 = 78;

pub fn run(given: &Given) -> ExitCode {
    let config = match Config::load(given) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(INVALID_CONFIGURATION);
        }
    };
    let runtime = match runtime(config.startup.lifecycle.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(config, given))
}

/// One thread needs no scheduler that moves work between threads.
pub fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build()
}

async fn serve(config: Config, given: &Given) -> ExitCode {
    // Without a handler, a SIGHUP that comes early would end the process.
    _ = signal(SignalKind::hangup());
    let telemetry = telemetry(&config.startup);
    adopt_library_logs(Arc::clone(&telemetry.log));
    count_panics(&telemetry);
    for notice in &config.notices {
        telemetry.log.event(Severity::Warn, "hookgate.notice", notice);
    }
    let code = match Server::bind(config, given.clone(), Arc::clone(&telemetry)) {
        Ok(server) => {
            announce(&server, &telemetry);
            match server.run(stop_signal()).await {
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
    telemetry.close();
    code
}

fn telemetry(startup: &Startup) -> Arc<Telemetry> {
    let metrics = Metrics::new();
    let format = match startup.lifecycle.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Auto if std::io::stdout().is_terminal() => Format::Text,
        LogFormat::Json | LogFormat::Auto => Format::Json,
    };
    let least = match startup.lifecycle.log_level {
        LogLevel::Error => Severity::Error,
        LogLevel::Warn => Severity::Warn,
        LogLevel::Info => Severity::Info,
        LogLevel::Debug => Severity::Debug,
    };
    let log = Sink::new(Box::new(std::io::stdout()), format, least, metrics.log_dropped.clone());
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
        telemetry.metrics.panics.inc();
        let place = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        telemetry.log.event(Severity::Error, "hookgate.panic", &format!("a panic was caught at {place}"));
    }));
}

fn announce(server: &Server, telemetry: &Telemetry) {
    let mut message = format!("hookgate {} listens", env!("CARGO_PKG_VERSION"));
    for (how, addresses) in [(" on", server.addresses()), (" with TLS on", server.tls_addresses())] {
        for (n, address) in addresses.iter().enumerate() {
            _ = write!(message, "{} {address}", if n == 0 { how } else { "," });
        }
    }
    if let Some(ops) = server.ops_address() {
        _ = write!(message, "; health and metrics on {ops}");
    }
    telemetry.log.event(Severity::Info, "hookgate.start", &message);
}

/// SIGTERM drains after the delay, Ctrl-C at once; a second signal ends the process.
async fn stop_signal() -> Stop {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    let how = tokio::select! {
        _ = terminate.recv() => Stop::Gracefully,
        _ = interrupt.recv() => Stop::WithoutDelay,
    };
    tokio::spawn(async move {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = interrupt.recv() => 130,
        };
        std::process::exit(code);
    });
    how
}

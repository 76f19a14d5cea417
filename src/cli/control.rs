//! What the commands share that ask a running gate something over its control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{print, shown};
use crate::config::units::Span;
use crate::ops::control::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

/// Why a command does not do what it is asked, and the exit code for it.
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Failure { message: message.into(), code }
    }

    /// That the gate did not do it.
    pub(super) fn told(message: impl Into<String>) -> Self {
        Failure::new(1, message)
    }

    pub(super) fn unexpected() -> Self {
        Failure::told("the gate answers something else: is it of another version?")
    }

    pub(super) fn exit(self) -> ExitCode {
        eprintln!("{}", shown(&self.message));
        ExitCode::from(self.code)
    }
}

/// Asks a running gate one thing.
pub(super) fn ask<A: DeserializeOwned>(
    socket: &Path,
    Span(timeout): Span,
    request: &Request,
) -> Result<A, Failure> {
    converse(socket, timeout, request).map_err(|error| {
        let path = socket.display();
        Failure::told(format!("no gate answers on {path}: {error}; is it started with --control-socket?"))
    })
}

fn converse<A: DeserializeOwned>(socket: &Path, timeout: Duration, request: &Request) -> std::io::Result<A> {
    /// Longer than an event with the largest body, in base64.
    const LONGEST: u64 = 256 << 20;

    let mut stream = UnixStream::connect(socket)?;
    let timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Prints what is known of one record, a line for each member.
pub(super) fn print_members(record: &Value) {
    for (name, value) in record.as_object().into_iter().flatten() {
        print(format_args!("{name}: {}", shown(value.as_str().unwrap_or(&value.to_string()))));
    }
}

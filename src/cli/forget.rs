//! `hookgate forget`: asks a running gate to forget that an event was delivered, so that it is
//! delivered again when its provider sends it again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::control::{Failure, ask};
use super::print;
use crate::config::units::Span;
use crate::ops::control::{Answer, Event, Request};

#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The event's id, which its provider signs, or the delivery id of one that this gate saw lately; with --route. Again for an event that has two ids,
    /// as Scalekit's have: one in a header and one in the body
    #[arg(
        long,
        value_name = "ID",
        requires = "route",
        required_unless_present = "key",
        conflicts_with = "key"
    )]
    event: Vec<String>,

    /// The name of the route on which it came
    #[arg(long, value_name = "NAME", requires = "event")]
    route: Option<String>,

    /// Whose event it is, on a route that tenants share
    #[arg(long, value_name = "NAME", requires = "event")]
    tenant: Option<String>,

    /// The event's key: the Hookgate-Idempotency-Key that the application was sent
    #[arg(long, value_name = "HEX", value_parser = hex_key)]
    key: Option<String>,

    /// The control socket of the gate, as its --control-socket says
    #[arg(long, value_name = "PATH", env = "HOOKGATE_CONTROL_SOCKET")]
    control_socket: PathBuf,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: Span,
}

fn hex_key(text: &str) -> Result<String, &'static str> {
    crate::ops::control::parse_key(text).map(|key| key.to_string()).ok_or("a key is 32 hex digits")
}

pub fn forget(args: &ForgetArgs) -> ExitCode {
    match ask_all(args) {
        Ok(()) => {
            print("forgotten: the event is delivered again when it is sent again");
            ExitCode::SUCCESS
        }
        Err(failure) => failure.exit(),
    }
}

fn ask_all(args: &ForgetArgs) -> Result<(), Failure> {
    let ForgetArgs { event, route, tenant, key, .. } = args;
    // The flags see to it that there is a route where there is an id.
    let by_id = event.iter().map(|id| Event::ById {
        route: route.clone().unwrap_or_default(),
        event: id.clone(),
        tenant: tenant.clone(),
    });
    let by_key = key.iter().map(|key| Event::ByKey { key: key.clone() });
    let mut forgotten = false;
    for event in by_key.chain(by_id) {
        match ask(&args.control_socket, args.timeout, &Request::Forget(event))? {
            Answer::Forgotten => forgotten = true,
            Answer::NotFound => {}
            Answer::Held => {
                let message =
                    "the event is being delivered at this moment, or waits in the inbox: it goes on";
                return Err(Failure::told(message));
            }
            Answer::Refused { message } => return Err(Failure::told(message)),
        }
    }
    if forgotten {
        Ok(())
    } else {
        Err(Failure::told("the gate does not remember such an event: nothing was changed"))
    }
}

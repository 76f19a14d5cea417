//! `hookgate refused`: requests that a running gate has refused and kept, what they come to now, and to have one
//! delivered after all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use serde_json::json;

use super::control::{Failure, Output, ask, print_members};
use super::inbox::Since;
use super::{print, shown};
use crate::config::units::Span;
use crate::ops::control;
use crate::ops::refused::{Answer, Judged, Record, Request, Sent, Which};

#[derive(Debug, Args)]
pub struct RefusedArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List what was refused and is kept
    List(ListArgs),
    /// Show one request, without what lets somebody in
    Show(ShowArgs),
    /// Say what requests would come to now, by the keys and settings that there are now
    Verify(SomeArgs),
    /// Have requests delivered that verify now
    Deliver(DeliverArgs),
}

#[derive(Debug, Args)]
struct Gate {
    /// The control socket of the gate, as its --control-socket says
    #[arg(long, value_name = "PATH", env = "HOOKGATE_CONTROL_SOCKET")]
    control_socket: std::path::PathBuf,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Span,
}

#[derive(Debug, Args)]
struct Filter {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Refused for this reason, such as signature_mismatch
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,

    /// Received since then: a time, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,

    /// json prints one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    #[command(flatten)]
    gate: Gate,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The request's id: its Hookgate-Request-Id, which the log has too
    id: String,

    /// Write the request as it is kept, for `hookgate verify`
    #[arg(long)]
    raw: bool,

    /// json prints one object
    #[arg(short, long, value_enum, default_value_t = Output::Text, conflicts_with = "raw")]
    output: Output,

    #[command(flatten)]
    gate: Gate,
}

#[derive(Debug, Args)]
struct SomeArgs {
    /// These requests, by their ids
    ids: Vec<String>,

    #[command(flatten)]
    filter: Filter,

    /// json prints one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    #[command(flatten)]
    gate: Gate,
}

#[derive(Debug, Args)]
struct DeliverArgs {
    #[command(flatten)]
    some: SomeArgs,

    /// Also those that came longer ago than events are remembered: a copy may have been delivered
    #[arg(long)]
    may_be_twice: bool,
}

impl Filter {
    fn which(&self) -> Which {
        Which {
            id: None,
            route: self.route.clone(),
            reason: self.reason.clone(),
            since_ms: self.since.map(Since::ms),
        }
    }

    fn is_empty(&self) -> bool {
        self.route.is_none() && self.reason.is_none() && self.since.is_none()
    }
}

/// Exit 0 if all is as it should be, 1 if something does not verify or is not delivered.
pub fn refused(args: &RefusedArgs) -> ExitCode {
    let done = match &args.what {
        What::List(args) => list(args),
        What::Show(args) => show(args),
        What::Verify(args) => each(args, |id| Request::Verify { id }),
        What::Deliver(DeliverArgs { some, may_be_twice }) => {
            each(some, |id| Request::Deliver { id, may_be_twice: *may_be_twice })
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => failure.exit(),
    }
}

fn list(args: &ListArgs) -> Result<bool, Failure> {
    let records = listed(&args.gate, args.filter.which())?;
    if args.output == Output::Text {
        print(format_args!(
            "{:<32}  {:<19}  {:<24}  {:<19}  {:<8}  {:>9}  client",
            "id", "received", "route", "reason", "held", "bytes"
        ));
    }
    for record in &records {
        match args.output {
            Output::Json => print(shown(&json!(record).to_string())),
            Output::Text => print(shown(&in_text(record))),
        }
    }
    if args.output == Output::Text && records.is_empty() {
        print("nothing");
    }
    Ok(true)
}

fn in_text(record: &Record) -> String {
    let Record { id, route, reason, received_at, held, bytes, client, .. } = record;
    let received = received_at.split(['.', 'Z']).next().unwrap_or_default();
    let client = client.as_deref().unwrap_or("unknown");
    format!("{id:<32}  {received:<19}  {route:<24}  {reason:<19}  {held:<8}  {bytes:>9}  {client}")
}

fn listed(gate: &Gate, which: Which) -> Result<Vec<Record>, Failure> {
    match converse(gate, Request::List { which })? {
        Answer::Listed { records } => Ok(records),
        other => Err(unexpected(other)),
    }
}

fn show(args: &ShowArgs) -> Result<bool, Failure> {
    let (record, sent) = match converse(&args.gate, Request::Show { id: args.id.clone(), raw: args.raw })? {
        Answer::Shown { record, request } => (record, request),
        other => return Err(unexpected(other)),
    };
    let sent = sent.map(|Sent { head_base64, body_base64 }| {
        let decoded = |text: &str| BASE64.decode(text.as_bytes()).unwrap_or_default();
        (decoded(&head_base64), decoded(&body_base64), body_base64)
    });
    if args.raw {
        let (head, body, _) = sent.ok_or_else(|| Failure::told(UNREADABLE))?;
        let mut out = std::io::stdout().lock();
        // A reader that has seen enough is no failure.
        _ = out.write_all(&head).and_then(|()| out.write_all(&body)).and_then(|()| out.flush());
        if record.held != "whole" {
            eprintln!("note: this is not all of it: {}", in_words(&record.held));
        }
        return Ok(true);
    }
    if args.output == Output::Json {
        let mut object = json!(record);
        if let Some((head, _, body_base64)) = &sent {
            object["head"] = String::from_utf8_lossy(head).into();
            object["body_base64"] = body_base64.as_str().into();
        }
        print(shown(&object.to_string()));
        return Ok(sent.is_some());
    }
    print_members(&json!(record));
    let (head, body, _) = sent.ok_or_else(|| Failure::told(UNREADABLE))?;
    print("");
    String::from_utf8_lossy(&head).lines().for_each(|line| print(shown(line)));
    if record.held != "whole" {
        print(format_args!("({})", in_words(&record.held)));
    }
    print(shown(&String::from_utf8_lossy(&body)));
    Ok(true)
}

const UNREADABLE: &str = "what was kept cannot be read: its key is missing, or it is damaged";

/// How much of it is there.
fn in_words(held: &str) -> &'static str {
    match held {
        "head" => "its body had not come when it was refused",
        "withheld" => "what judges it is a secret that it shows, which is not written down",
        _ => "all of it is there",
    }
}

/// One after the other, in the order in which they came. Whether all are accepted.
fn each(args: &SomeArgs, request: impl Fn(String) -> Request) -> Result<bool, Failure> {
    if args.ids.is_empty() && args.filter.is_empty() {
        let message = "which requests? Name their ids, a --route, a --reason or a time (--since)";
        return Err(Failure::new(2, message));
    }
    if !args.ids.is_empty() && !args.filter.is_empty() {
        let message = "name requests by their ids or by what they have in common, not by both";
        return Err(Failure::new(2, message));
    }
    let ids = if args.ids.is_empty() {
        listed(&args.gate, args.filter.which())?.into_iter().map(|record| record.id).collect()
    } else {
        args.ids.clone()
    };
    if ids.is_empty() {
        return Err(Failure::told("nothing like that is on the shelf"));
    }
    let mut all = true;
    for id in ids {
        let judged = match converse(&args.gate, request(id.clone()))? {
            Answer::Judged(judged) => *judged,
            Answer::Refused { message } => Judged::unknown(id, message),
            other => return Err(unexpected(other)),
        };
        all &= matches!(judged.reason.as_deref(), Some("accepted" | "stored" | "duplicate"));
        match args.output {
            Output::Json => print(shown(&json!(judged).to_string())),
            Output::Text => print(shown(&judged.in_text())),
        }
    }
    Ok(all)
}

impl Judged {
    fn unknown(id: String, message: String) -> Self {
        Judged {
            id,
            verdict: "unknown".to_owned(),
            reason: None,
            key_id: None,
            key: None,
            event_id: None,
            event_type: None,
            message: Some(message),
        }
    }

    fn in_text(&self) -> String {
        let Judged { id, reason, key_id, event_id, event_type, message, .. } = self;
        let what = [reason.as_deref(), message.as_deref()];
        let mut text = format!("{id}  {}", what.into_iter().flatten().collect::<Vec<_>>().join(": "));
        for (name, value) in [("key", key_id), ("event", event_id), ("type", event_type)] {
            if let Some(value) = value {
                // Writing to memory does not fail.
                _ = write!(text, "  {name} {value}");
            }
        }
        text
    }
}

fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Refused { message } => Failure::told(message),
        Answer::Listed { .. } | Answer::Shown { .. } | Answer::Judged(_) => Failure::unexpected(),
    }
}

fn converse(gate: &Gate, request: Request) -> Result<Answer, Failure> {
    ask(&gate.control_socket, gate.timeout, &control::Request::Refused(request))
}

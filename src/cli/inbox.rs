//! `hookgate inbox`: what a running gate has stored, and what is to be done with it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::json;

use super::control::{Failure, Output, ask, print_members};
use super::{print, shown};
use crate::clock;
use crate::config::units::{Moment, Rate, Span};
use crate::inbox::Id;
use crate::inbox::state::State;
use crate::ops::control;
use crate::ops::inbox::{Answer, Record, Request, Sent, Which};

#[derive(Debug, Args)]
pub struct InboxArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List what is stored, given up or cannot be read
    List(ListArgs),
    /// Show one event, as the application gets it
    Show(ListArgs),
    /// Have events delivered now, those that were given up as well
    Replay(ReplayArgs),
    /// Forget events; when their sender sends them again, they are delivered
    Drop(SomeArgs),
    /// Hold back what is stored of a route, also over a restart
    Pause(RouteArgs),
    /// Go on with it
    Resume(RouteArgs),
}

#[derive(Debug, Args)]
struct Gate {
    /// The control socket of the gate, as its --control-socket says
    #[arg(long, value_name = "PATH", env = "HOOKGATE_CONTROL_SOCKET")]
    control_socket: PathBuf,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: Span,
}

#[derive(Debug, Default, PartialEq, Eq, Args)]
struct Filter {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// In this state: stored, dead or damaged
    #[arg(long, value_name = "STATE")]
    state: Option<State>,

    /// The event's id, as its sender tells it, or its key: the Hookgate-Idempotency-Key
    #[arg(long, value_name = "ID")]
    event: Option<String>,

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
struct SomeArgs {
    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    gate: Gate,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    some: SomeArgs,

    /// No faster than this, such as 50/s [default: as fast as the application takes them]
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
}

#[derive(Debug, Args)]
struct RouteArgs {
    /// The route
    #[arg(long, value_name = "NAME")]
    route: String,

    #[command(flatten)]
    gate: Gate,
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    At(Moment),
    Ago(Span),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let moment = text.parse().map(Since::At);
        moment.or_else(|_: String| text.parse().map(Since::Ago)).map_err(|_: String| {
            format!("\"{text}\" is no time: write for example 2h or 2027-01-31T12:00:00Z")
        })
    }
}

impl Since {
    pub(super) fn ms(self) -> i64 {
        match self {
            Since::At(moment) => moment.ms,
            Since::Ago(Span(ago)) => clock::now().wall_ms.saturating_sub(clock::millis(ago)),
        }
    }
}

impl Filter {
    fn which(&self) -> Which {
        Which {
            route: self.route.clone(),
            tenant: self.tenant.clone(),
            state: self.state.map(|state| state.label().to_owned()),
            event: self.event.clone(),
            since_ms: self.since.map(Since::ms),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

pub fn inbox(args: &InboxArgs) -> ExitCode {
    let done = match &args.what {
        What::List(args) => list(args),
        What::Show(args) => show(args),
        What::Replay(args) => {
            let (apart_ms, rate) = args.rate.map_or((0, None), apart);
            change(&args.some, "due now", rate, move |ids, which, before| Request::Replay {
                from_ms: apart_ms.saturating_mul(before),
                ids,
                which,
                apart_ms,
            })
        }
        What::Drop(args) => change(args, "dropped", None, |ids, which, _| Request::Drop { ids, which }),
        What::Pause(args) => {
            of_route(args, Request::Pause { route: args.route.clone() }, ("held back", "held back"))
        }
        What::Resume(args) => {
            of_route(args, Request::Resume { route: args.route.clone() }, ("goes on", "go on"))
        }
    };
    match done {
        Ok(line) => {
            if let Some(line) = line {
                print(line);
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.exit(),
    }
}

/// What is printed at the end, if anything.
type Done = Result<Option<String>, Failure>;

/// How many milliseconds apart, and the rate in words.
fn apart(rate: Rate) -> (i64, Option<String>) {
    match rate {
        Rate::Off => (0, None),
        Rate::Limit { count, period } => {
            let apart = clock::millis(period) / i64::from(count.max(1));
            (apart.max(1), Some(rate.to_string()))
        }
    }
}

fn list(args: &ListArgs) -> Done {
    let mut count = 0;
    let mut begun = false;
    each_part(&args.gate, &args.filter.which(), |records| {
        if args.output == Output::Text && !begun {
            print(format_args!(
                "{:<20}  {:<24}  {:<8}  {:>8}  {:<20}  {:<12}  event",
                "received", "route", "state", "attempts", "next attempt", "last outcome"
            ));
        }
        begun = true;
        count += records.len();
        for record in records {
            match args.output {
                Output::Json => print(as_json(&record)),
                Output::Text => print(shown(&as_text(&record))),
            }
        }
        Ok(())
    })?;
    Ok((args.output == Output::Text && count == 0).then(|| "nothing".to_owned()))
}

fn as_text(record: &Record) -> String {
    let Record { key, route, state, received_at, attempts, .. } = record;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let (next, last) = (or_none(&record.next_attempt_at), or_none(&record.last_outcome));
    let event = record.event_id.as_ref().unwrap_or(key);
    let named = record.event_type.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let whose = record.tenant.as_ref().map_or_else(String::new, |tenant| format!(" of {tenant}"));
    let short = |time: &str| time.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
    format!(
        "{:<20}  {route:<24}  {state:<8}  {attempts:>8}  {:<20}  {last:<12}  {event}{named}{whose}",
        short(received_at),
        short(&next)
    )
}

/// The number of a record is the database's own, and no script's.
fn as_json(record: &Record) -> serde_json::Value {
    let mut object = json!(record);
    if let Some(members) = object.as_object_mut() {
        members.remove("id");
    }
    object
}

fn show(args: &ListArgs) -> Done {
    let mut found = Vec::new();
    each_part(&args.gate, &args.filter.which(), |records| {
        found.extend(records);
        Ok(())
    })?;
    let [record] = &*found else {
        return Err(match found.len() {
            0 => Failure::told(NONE),
            n => Failure::told(format!("{n} events fit: name one by --event, with its id or its key")),
        });
    };
    match converse(&args.gate, Request::Show { id: record.id })? {
        Answer::Shown { record, request } => {
            match args.output {
                Output::Json => {
                    let mut object = as_json(&record);
                    if let Some(Sent { head, body_base64 }) = request {
                        object["head"] = head.into();
                        object["body_base64"] = body_base64.into();
                    }
                    print(object);
                }
                Output::Text => {
                    print_members(&as_json(&record));
                    let Some(Sent { head, body_base64 }) = request else {
                        return Err(Failure::told(
                            "what was stored cannot be read: its key is missing, or it is damaged",
                        ));
                    };
                    print("");
                    head.lines().for_each(|line| print(shown(line)));
                    let body = data_encoding::BASE64.decode(body_base64.as_bytes()).unwrap_or_default();
                    print(shown(&String::from_utf8_lossy(&body)));
                }
            }
            Ok(None)
        }
        Answer::Refused { message } => Err(Failure::told(message)),
        Answer::Listed { .. } | Answer::Done { .. } => Err(Failure::unexpected()),
    }
}

const NONE: &str = "the inbox has no such event: nothing was changed";

/// Does something with all that is meant, part by part, and says with how many.
fn change(
    args: &SomeArgs,
    what: &str,
    rate: Option<String>,
    request: impl Fn(Vec<Id>, Which, i64) -> Request,
) -> Done {
    if args.filter.is_empty() {
        let message = "which events? Name a --route, a --tenant, a --state, an --event or a time (--since)";
        return Err(Failure::new(2, message));
    }
    let which = args.filter.which();
    // What is meant is gathered first: what is changed would move within the list.
    let mut ids = Vec::new();
    each_part(&args.gate, &which, |records| {
        ids.extend(records.iter().map(|record| record.id));
        Ok(())
    })?;
    let mut changed = 0;
    for (n, part) in (0_i64..).zip(ids.chunks(PART)) {
        let before = n.saturating_mul(PART.try_into().unwrap_or(i64::MAX));
        match converse(&args.gate, request(part.to_vec(), which.clone(), before))? {
            Answer::Done { count } => changed += count,
            Answer::Refused { message } => return Err(Failure::told(message)),
            Answer::Listed { .. } | Answer::Shown { .. } => return Err(Failure::unexpected()),
        }
    }
    let pace = rate.map_or_else(String::new, |rate| format!(", at {rate}"));
    match changed {
        0 => Err(Failure::told(NONE)),
        1 => Ok(Some(format!("1 event is {what}{pace}"))),
        n => Ok(Some(format!("{n} events are {what}{pace}"))),
    }
}

/// So many are changed by one request.
const PART: usize = 100;

/// `what` becomes of one event, and of several.
fn of_route(args: &RouteArgs, request: Request, what: (&str, &str)) -> Done {
    match converse(&args.gate, request)? {
        Answer::Done { count: 1 } => Ok(Some(format!("route {}: 1 stored event {}", args.route, what.0))),
        Answer::Done { count } => Ok(Some(format!("route {}: {count} stored events {}", args.route, what.1))),
        Answer::Refused { message } => Err(Failure::told(message)),
        Answer::Listed { .. } | Answer::Shown { .. } => Err(Failure::unexpected()),
    }
}

fn each_part(
    gate: &Gate,
    which: &Which,
    mut take: impl FnMut(Vec<Record>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = Id::default();
    loop {
        match converse(gate, Request::List { which: which.clone(), after })? {
            Answer::Listed { records, next } => {
                take(records)?;
                let Some(next) = next else { return Ok(()) };
                after = next;
            }
            Answer::Refused { message } => return Err(Failure::told(message)),
            Answer::Shown { .. } | Answer::Done { .. } => return Err(Failure::unexpected()),
        }
    }
}

fn converse(gate: &Gate, request: Request) -> Result<Answer, Failure> {
    ask(&gate.control_socket, gate.timeout, &control::Request::Inbox(request))
}

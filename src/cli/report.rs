//! `hookgate report`: what a running gate has refused or would have, check by check, and
//! whether its observing routes can enforce.

use std::process::ExitCode;

use clap::Args;

use super::check::Output;
use super::ops::OpsArgs;
use super::{print, shown};
use crate::gate::tenant::is_tenant;
use crate::ops::report::{Check, End, Report, RouteReport, TenantReport, is_answered};

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// What has become of the last deliveries of this tenant, on routes that have tenants
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// How the result is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text", env = "HOOKGATE_OUTPUT")]
    output: Output,

    #[command(flatten)]
    ops: OpsArgs,
}

pub fn report(args: &ReportArgs) -> ExitCode {
    let report = match read(args) {
        Ok(report) => report,
        Err(message) => {
            eprintln!("{}", shown(&message));
            return ExitCode::FAILURE;
        }
    };
    match args.output {
        Output::Text if args.tenant.is_some() => report.tenants.iter().for_each(print_tenant),
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(json) => print(json),
            Err(error) => eprintln!("{error}"),
        },
        Output::Text => {
            for (n, route) in report.routes.iter().enumerate() {
                if n > 0 {
                    print("");
                }
                print_route(route);
            }
        }
    }
    ExitCode::SUCCESS
}

fn read(args: &ReportArgs) -> Result<Report, String> {
    let address = args.ops.ops_listen;
    let target = match &args.tenant {
        Some(tenant) if is_tenant(tenant.as_bytes()) => format!("/report?tenant={tenant}"),
        Some(_) => return Err("that can be no tenant: names are [A-Za-z0-9._-], at most 128".to_owned()),
        None => "/report".to_owned(),
    };
    let (status, body) = args.ops.ask(&target).map_err(|e| format!("{address} cannot be asked: {e}"))?;
    if status != 200 {
        return Err(format!("{address} answered {status}: is it the ops listener of this version?"));
    }
    let mut report: Report =
        serde_json::from_str(&body).map_err(|e| format!("{address} answers what is no report: {e}"))?;
    if let Some(wanted) = &args.route {
        let names: Vec<_> = report.routes.iter().map(|route| route.route.clone()).collect();
        report.routes.retain(|route| route.route == *wanted);
        if report.routes.is_empty() {
            return Err(format!("there is no route {wanted}; there is {}", names.join(", ")));
        }
        report.tenants.retain(|tenant| tenant.route == *wanted);
    }
    if let (Some(tenant), true) = (&args.tenant, report.tenants.is_empty()) {
        return Err(format!("nothing is known of the tenant {tenant}: it has sent nothing lately"));
    }
    Ok(report)
}

fn print_tenant(report: &TenantReport) {
    let TenantReport { route, tenant, ends } = report;
    tell(format_args!("{tenant} on {route}"));
    for End { verdict, reason, count, first, last } in ends {
        let what = if verdict == reason { verdict.clone() } else { format!("{verdict}: {reason}") };
        let when = if first == last { first.clone() } else { format!("{first} to {last}") };
        tell(format_args!("  {what:32}  {count}, {when}"));
    }
}

fn print_route(route: &RouteReport) {
    let RouteReport { route: name, provider, path, mode, since, .. } = route;
    tell(format_args!("{name}  {path}  {provider}  {mode}s since {since}"));
    let observes = route.safe_to_enforce.is_some();
    let last = route.last_accepted.as_ref().map(|at| format!(" (last {at})")).unwrap_or_default();
    let would =
        if observes { format!(", {} would have been refused", route.would_refuse) } else { String::new() };
    tell(format_args!(
        "  {} seen, {} accepted{last}, {} refused{would}",
        route.seen, route.accepted, route.refused
    ));
    let width = route.checks.iter().map(|check| check.demands.len()).max().unwrap_or_default();
    for check in &route.checks {
        tell(format!("  {:10} {:width$}  {}", check.check, check.demands, came(check)).trim_end());
    }
    if let Some(inbox) = &route.inbox {
        tell(format_args!("  inbox: {}", inbox.in_words()));
    }
    tell(format_args!("  {}", route.verdict));
    if let Some(sender) = &route.sender {
        tell(format_args!("  {sender}"));
    }
}

/// Whoever answers at that address need not be a gate.
fn tell(line: impl std::fmt::Display) {
    print(shown(&line.to_string()));
}

/// What came against a check: `timestamp_stale: 3 would be refused, 2026-11-23T20:00:00Z to …`.
fn came(check: &Check) -> String {
    let reasons = check.reasons.iter().map(|o| {
        let (was, would) = if is_answered(&o.reason) {
            ("answered", "would be answered")
        } else {
            ("refused", "would be refused")
        };
        let counts = [(o.refused, was), (o.would_refuse, would)];
        let counts: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let when = if o.first == o.last { o.first.clone() } else { format!("{} to {}", o.first, o.last) };
        format!("{}: {}, {when}", o.reason, counts.join(", "))
    });
    match (check.in_force, check.reasons.is_empty()) {
        (true, true) => "0".to_owned(),
        (false, true) => String::new(),
        (_, false) => reasons.collect::<Vec<_>>().join("; "),
    }
}

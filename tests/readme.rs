//! The README tells the truth: its tables and flags are made from the code, its demo is what
//! appears, its links lead somewhere. `UPDATE_README=1 cargo test --test readme` renews it.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "the test is told by the environment whether to renew")]

use std::fmt::Write;
use std::process::Command;

use hookgate::config::provider::{PRESETS, preset};
use hookgate::config::raw::{Evidence, Preset, SchemeWords, SignatureFormat};
use hookgate::config::scheme::compile;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::Assurance;
use hookgate::gate::scheme::algorithm::Algorithm;

const README: &str = "README.md";

/// Replaces what stands between the markers of `name`, or asserts that it is up to date.
fn hold(name: &str, fresh: &str) {
    // Renewing rewrites the file: one section at a time.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let text = std::fs::read_to_string(README).unwrap();
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) =
        text.split_once(&begin).unwrap_or_else(|| panic!("the README has a place for {name}"));
    let (stands, after) = rest.split_once(&end).unwrap();
    let fresh = format!("\n{}\n\n", fresh.trim_end());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(README, format!("{before}{begin}{fresh}{end}{after}")).unwrap();
    } else {
        assert_eq!(stands, fresh, "{name} is out of date: UPDATE_README=1 cargo test --test readme");
    }
}

fn block(text: &str) -> String {
    format!("```text\n{}\n```", text.trim_end())
}

#[test]
fn the_flags_are_those_of_the_help() {
    let mut cli = hookgate::cli::command().term_width(120);
    cli.build();
    let help = cli.find_subcommand_mut("run").unwrap().render_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    hold("flags", &block(&help.join("\n")));
}

#[test]
fn the_commands_are_those_of_the_help() {
    let help = hookgate::cli::command().term_width(120).render_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    hold("commands", &block(&help.join("\n")));
}

#[test]
fn the_statuses_are_those_of_the_code() {
    let mut table =
        String::from("| reason | status | the sender reads | verdict |\n| --- | --- | --- | --- |\n");
    for reason in Reason::ALL {
        let (status, text) = match reason {
            Reason::Accepted => ("the application's".to_owned(), "the application's answer".to_owned()),
            Reason::Handshake => ("200".to_owned(), "the answer that the provider expects".to_owned()),
            _ => (reason.status().to_string(), format!("`{}`", reason.text())),
        };
        let label = reason.label();
        writeln!(table, "| [`{label}`](#{label}) | {status} | {text} | {} |", reason.verdict().label())
            .unwrap();
    }
    hold("statuses", &table);
}

#[test]
fn the_providers_are_those_of_the_catalogue() {
    let mut table = String::from(
        "| name | provider | what is verified | signed time | evidence |\n| --- | --- | --- | --- | --- |\n",
    );
    for (name, _) in PRESETS {
        let preset = preset(name).unwrap();
        let Preset { title, source, evidence, schemes, .. } = &preset;
        let verified: Vec<_> = schemes.iter().map(verified).collect();
        let time: Vec<_> = schemes.iter().map(signed_time).collect();
        let evidence = match evidence {
            Evidence::Published => "published signature",
            Evidence::Sdk => "signature by its SDK",
            Evidence::Documented => "documentation",
            Evidence::Unconfirmed => "unconfirmed",
        };
        let time = if time.iter().all(|t| *t == time[0]) { time[0].clone() } else { time.join("; ") };
        writeln!(table, "| `{name}` | [{title}]({source}) | {} | {time} | {evidence} |", verified.join("; "))
            .unwrap();
    }
    hold("providers", &table);
}

fn verified(scheme: &SchemeWords) -> String {
    let place = scheme.signature.from.join(", ").replace("header:", "");
    if scheme.algorithm == Algorithm::Token {
        return format!("`{place}`: a credential, nothing is signed");
    }
    let algorithm = serde_json::to_value(scheme.algorithm).unwrap().as_str().unwrap().to_uppercase();
    let signed = match scheme.signature.format {
        SignatureFormat::Jwt => "claims".to_owned(),
        _ => {
            let shown = |content: &String| {
                format!("`{}`", content.replace("header:", "").replace('\n', "\\n").replace('|', "\\|"))
            };
            scheme.content.iter().map(shown).collect::<Vec<_>>().join(" or ")
        }
    };
    let also = scheme
        .also
        .iter()
        .fold(String::new(), |text, also| text + &format!(", and `{}`", also.trim().replace('|', "\\|")));
    let partly = match compile(scheme, None, None).unwrap().assurance {
        _ if scheme.signs_body == Some(false) => " (not the whole body)",
        Assurance::Partial => " (`partial`: it leaves something open)",
        Assurance::Verified | Assurance::Authenticated => "",
    };
    format!("`{place}`: {algorithm} over {signed}{also}{partly}")
}

fn signed_time(scheme: &SchemeWords) -> String {
    match &scheme.timestamp {
        None => "none".to_owned(),
        Some(time) => time.tolerance.map_or_else(|| "5m".to_owned(), |tolerance| tolerance.to_string()),
    }
}

#[test]
fn the_demo_shows_what_the_readme_shows() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookgate")).arg("demo").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    let table: Vec<_> = shown
        .lines()
        .skip_while(|l| !l.trim_start().starts_with("sent"))
        .take_while(|l| !l.is_empty())
        .collect();
    let verdict = shown.lines().last().unwrap();
    hold("demo", &block(&format!("{}\n\n{verdict}", table.join("\n"))));
}

#[test]
fn every_reason_has_its_advice() {
    let text = std::fs::read_to_string(README).unwrap();
    for reason in Reason::ALL {
        assert!(text.contains(&format!("\n#### {}\n", reason.label())), "troubleshooting speaks of {reason}");
    }
}

#[test]
fn links_to_files_and_sections_lead_somewhere() {
    let text = std::fs::read_to_string(README).unwrap();
    let anchors: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|a| a == anchor), "#{anchor} is no section"),
            None if link.starts_with("https://") => {}
            None => assert!(std::path::Path::new(link).exists(), "{link} is no file"),
        }
    }
}

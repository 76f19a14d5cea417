//! What is made from the code and held against the pages: the reference, the commands, the answers, the
//! table of presets, and what the demo prints.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use hookgate::config::changes::is_live;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::provider::{PRESETS, preset};
use hookgate::config::raw::{Evidence, Preset, Retries, SchemeWords, SignatureFormat};
use hookgate::config::scheme::compile;
use hookgate::config::{Config, Startup};
use hookgate::gate::identity::Rule;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::Assurance;
use hookgate::gate::scheme::algorithm::Algorithm;

use super::{CONFIGURATION, POD, PROVIDERS, README, between, hookgate, read, stands_after};

/// Another value than the default, for each key that stands above the routes and needs no certificate.
const OTHER_VALUES: [(&str, &str); 44] = [
    ("listen", "listen: [127.0.0.1:1]"),
    ("ops_listen", "ops_listen: 127.0.0.1:1"),
    ("ops_hosts", "ops_hosts: [ops.example]"),
    ("upstream", "upstream: http://127.0.0.1:1"),
    ("upstream_timeout", "upstream_timeout: 7s"),
    ("upstream_connect_timeout", "upstream_connect_timeout: 7s"),
    ("trusted_proxies", "trusted_proxies: [10.9.0.0/16]"),
    ("real_ip_header", "real_ip_header: x-real-ip"),
    ("proxy_protocol", "proxy_protocol: optional"),
    ("proxy_protocol_from", "proxy_protocol: optional\nproxy_protocol_from: [10.9.0.0/16]"),
    ("insecure_allow_http", "insecure_allow_http: true"),
    ("insecure_short_secret", "insecure_short_secret: true"),
    ("replay.window", "replay: { window: 48h }"),
    ("replay.capacity", "replay: { capacity: 7 }"),
    ("replay.file", "replay: { file: /nowhere }"),
    ("replay.store", "replay: { store: redis://127.0.0.1:1, prefix: a }"),
    ("replay.prefix", "replay: { store: redis://127.0.0.1:1, prefix: b }"),
    (
        "replay.password_file",
        "replay: { store: redis://127.0.0.1:1, prefix: a, password_file: tests/config/secret }",
    ),
    ("replay.timeout", "replay: { store: redis://127.0.0.1:1, prefix: a, timeout: 300ms }"),
    ("replay.on_store_error", "replay: { on_store_error: local }"),
    ("replay.ready_without_store", "replay: { ready_without_store: true }"),
    ("keys.ca_file", "keys: { ca_file: tests/config/authority.pem }"),
    ("keys.proxy", "keys: { proxy: http://127.0.0.1:1 }"),
    ("keys.dir", "keys: { dir: tests }"),
    ("keys.allow_private", "keys: { allow_private: true }"),
    ("state_dir", "state_dir: /tmp/hookgate-state"),
    ("inbox.max_bytes", "state_dir: /tmp/hookgate-state\ninbox: { max_bytes: 2MiB }"),
    (
        "inbox.encryption_key_file",
        "state_dir: /tmp/hookgate-state\ninbox: { encryption_key_file: tests/config/sealkey }",
    ),
    ("refused.keep", "state_dir: /tmp/hookgate-state\nrefused: { keep: 7 }"),
    ("refused.max_bytes", "state_dir: /tmp/hookgate-state\nrefused: { max_bytes: 1MiB }"),
    ("limits.max_buffered", "limits: { max_buffered: 32MiB }"),
    ("limits.max_connections", "limits: { max_connections: 512 }"),
    ("limits.max_connections_per_address", "limits: { max_connections_per_address: 7 }"),
    ("header_timeout", "header_timeout: 7s"),
    ("body_timeout", "body_timeout: 7s"),
    ("idle_timeout", "idle_timeout: 7s"),
    ("control_socket", "control_socket: /tmp/hookgate"),
    ("strict_start", "strict_start: true"),
    ("shutdown_delay", "shutdown_delay: 7s"),
    ("shutdown_timeout", "shutdown_timeout: 7s"),
    ("reload_interval", "reload_interval: 7s"),
    ("threads", "threads: 61"),
    ("log_format", "log_format: text"),
    ("log_level", "log_level: debug"),
];

#[test]
fn the_commands_are_those_of_the_help() {
    let help = hookgate::cli::command().term_width(120).render_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    hold(CONFIGURATION, "commands", &block(&help.join("\n")));
}

#[test]
fn the_reference_is_that_of_the_flags_and_the_schema() {
    let mut cli = hookgate::cli::command();
    cli.build();
    let schema: serde_json::Value =
        serde_json::from_slice(&hookgate(&["schema"]).stdout).expect("the schema is JSON");
    let mut parts: Vec<(&str, String)> = Vec::new();
    let mut keys = BTreeSet::new();
    for flag in cli.find_subcommand("run").unwrap().get_arguments() {
        let Some(long) = flag.get_long().filter(|long| !matches!(*long, "help" | "config")) else { continue };
        let heading = flag.get_help_heading().expect("each flag has a heading");
        let variable = flag.get_env().unwrap().to_str().unwrap();
        let key = key(&long.replace('-', "_"), &schema);
        assert!(keys.insert(key.clone()), "two flags for {key}: --{long}");
        let help = flag.get_help().unwrap().to_string().replace('|', "\\|");
        let (what, default) = help.rsplit_once(" [default: ").unwrap_or((&help, "none]"));
        let (values, default) = values(flag, default.trim_end_matches(']'));
        let live = live(&key);
        assert_eq!(is_live(&key), live != "restart", "{key}: what a reload tells of it");
        let row = format!("| `{key}` | `--{long}` `{variable}` | {what}{values} | {default} | {live} |\n");
        match parts.iter_mut().find(|(part, _)| *part == heading) {
            Some((_, rows)) => rows.push_str(&row),
            None => parts.push((heading, row)),
        }
    }
    for (key, _) in OTHER_VALUES {
        assert_eq!(is_live(key), live(key) != "restart", "{key}: what a reload tells of it");
    }
    let mut pages = String::new();
    for (heading, rows) in parts {
        write!(pages, "\n**{heading}**\n\n| key | flag, variable | what | default | live |\n").unwrap();
        write!(pages, "| --- | --- | --- | --- | --- |\n{rows}").unwrap();
    }
    hold(CONFIGURATION, "reference", &pages);
}

/// What a flag takes, where that is a list, and its default.
fn values<'d>(flag: &clap::Arg, default: &'d str) -> (String, &'d str) {
    let values = flag.get_possible_values();
    if values.iter().any(|value| value.get_name() == "true") {
        return (String::new(), "off");
    }
    let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    let sign = if values.is_empty() { "" } else { ": " };
    (format!("{sign}{}", values.join(", ")), default)
}

/// Whether a reload takes another value up: what a route says, and what is no part of the start.
fn live(key: &str) -> &'static str {
    match key {
        // Shorter is enough: the replay memory was made for the longer one.
        "routes[].tolerance" | "routes[].future_tolerance" => "a shorter one",
        "listen_tls" | "replay.ca_file" => "restart",
        key if key.starts_with("routes[]") || key.starts_with("tls_") => "yes",
        key => {
            let other = OTHER_VALUES.iter().find(|(other, _)| *other == key);
            let (_, other) = other.unwrap_or_else(|| panic!("OTHER_VALUES has one for {key}"));
            let shared = key.starts_with("replay.") && key != "replay.store" && other.contains("redis://");
            // What stands before it is what it needs.
            let before = other.rsplit_once('\n').map_or("", |(before, _)| before);
            let usual = if shared { "replay: { store: redis://127.0.0.1:1, prefix: a }" } else { before };
            if startup(usual) == startup(other) { "yes" } else { "restart" }
        }
    }
}

/// What is fixed until a restart, by a file with one route and that line.
fn startup(line: &str) -> Startup {
    let route = "{ provider: github, path: /a, secrets: [{ file: tests/config/secret }] }";
    let file = std::env::temp_dir().join(format!("hookgate-reference-{}.yaml", std::process::id()));
    fs::write(&file, format!("{line}\nroutes: [{route}]\n")).unwrap();
    let args = RunArgs { config: Some(file.clone().into()), ..RunArgs::default() };
    let config = Config::load(&Given::flags(args));
    fs::remove_file(file).unwrap();
    config.unwrap_or_else(|problems| panic!("{line}: {problems}")).startup
}

/// Under which key of the file a flag's value stands: its own words, in the part that knows them.
fn key(flag: &str, schema: &serde_json::Value) -> String {
    if flag == "inbox" {
        return "routes[].inbox.on".to_owned();
    }
    if flag == "secret_file" {
        return "routes[].secrets[].file".to_owned();
    }
    if let Some(own) = flag.strip_prefix("keys_") {
        return format!("keys.{own}");
    }
    let part = |property: &serde_json::Value| {
        let name = property.to_string();
        let name = name.split("#/$defs/").nth(1).unwrap().split('"').next().unwrap().to_owned();
        &schema["$defs"][name]["properties"]
    };
    let file = &schema["properties"];
    let parts = [
        ("routes[].", part(&file["routes"])),
        ("routes[].deliver.", part(&part(&file["routes"])["deliver"])),
        ("routes[].inbox.", part(&part(&file["routes"])["inbox"])),
        ("", file),
        ("limits.", part(&file["limits"])),
        ("replay.", part(&file["replay"])),
    ];
    let short = flag.strip_prefix("replay_store_").or(flag.strip_prefix("replay_")).unwrap_or(flag);
    let spellings = [flag.to_owned(), format!("{flag}s"), flag.replace("proxy", "proxies"), short.to_owned()];
    let found = parts.iter().find_map(|(place, keys)| {
        let spelling = spellings.iter().find(|spelling| keys.get(spelling).is_some())?;
        Some(format!("{place}{spelling}"))
    });
    found.unwrap_or_else(|| panic!("the file has a key for --{flag}"))
}

#[test]
fn the_statuses_are_those_of_the_code() {
    let mut table =
        String::from("| reason | status | the sender reads | verdict |\n| --- | --- | --- | --- |\n");
    for reason in Reason::ALL {
        let (status, text) = match reason {
            Reason::Accepted | Reason::UpstreamStatus => {
                ("the application's".to_owned(), "the application's answer".to_owned())
            }
            Reason::Handshake => ("200".to_owned(), "the answer that the provider expects".to_owned()),
            Reason::Filtered | Reason::Stored => (
                "202, or the `ack` of provider or route".to_owned(),
                "nothing, or what its sender wants".to_owned(),
            ),
            Reason::Duplicate => {
                (reason.status().to_string(), format!("`{}`, or what its sender wants", reason.text()))
            }
            _ => (reason.status().to_string(), format!("`{}`", reason.text())),
        };
        let label = reason.label();
        writeln!(table, "| [`{label}`](#{label}) | {status} | {text} | {} |", reason.verdict().label())
            .unwrap();
    }
    hold(CONFIGURATION, "statuses", &table);
}

#[test]
fn every_reason_has_its_advice() {
    let text = read(CONFIGURATION);
    for reason in Reason::ALL {
        assert!(text.contains(&format!("\n#### {}\n", reason.label())), "{CONFIGURATION} speaks of {reason}");
    }
}

#[test]
fn the_providers_are_those_of_the_catalogue() {
    let mut table = String::from(
        "| preset | provider | signs | time | event is named by | waits | repeats | evidence |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, _) in PRESETS {
        let Preset { title, source, evidence, schemes, sender, identity, .. } = preset(name).unwrap();
        let evidence = match evidence {
            Evidence::Published => "published signature",
            Evidence::Sdk => "signature by its SDK",
            Evidence::Documented => "documentation",
            Evidence::Unconfirmed => "unconfirmed",
        };
        let signs = signs(&schemes);
        let [time, named] = [signed_time, named_by].map(|tell| {
            let mut told: Vec<_> = schemes.iter().map(tell).collect();
            told.dedup();
            told.join("; ")
        });
        let named = match identity.map(|identity| identity.by) {
            None | Some(Rule::Signed) => named,
            Some(Rule::Delivery) => format!("{named} and delivery id"),
            Some(Rule::None) => "nothing".to_owned(),
        };
        let sender = sender.unwrap_or_default();
        let waits = sender.waits.map_or_else(|| "?".to_owned(), |waits| waits.to_string());
        let repeats = match (sender.retries, sender.span) {
            (None, _) => "?".to_owned(),
            (Some(Retries::None), _) => "never".to_owned(),
            (Some(Retries::Few), None) => "a few times".to_owned(),
            (Some(Retries::Many), None) => "many times".to_owned(),
            (Some(Retries::Few), Some(span)) => format!("a few times in {}", about(span.0)),
            (Some(Retries::Many), Some(span)) => format!("many times in {}", about(span.0)),
        };
        writeln!(
            table,
            "| [`{name}`]({name}.yaml) | [{title}]({source}) | {signs} | {time} | {named} | {waits} | {repeats} | {evidence} |"
        )
        .unwrap();
    }
    hold(PROVIDERS, "providers", &table);
}

/// A span as people tell it, rounded.
fn about(span: Duration) -> String {
    let minutes = span.as_secs().div_ceil(60);
    match minutes {
        0..=1 => format!("{} s", span.as_secs()),
        2..=120 => format!("{minutes} min"),
        121..=2880 => format!("{} h", (minutes + 30) / 60),
        _ => format!("{} days", (minutes + 720) / 1440),
    }
}

/// What the schemes sign and where; algorithms for the same are told together.
fn signs(schemes: &[SchemeWords]) -> String {
    let mut told: Vec<(Vec<String>, String)> = Vec::new();
    for scheme in schemes {
        let algorithm = serde_json::to_value(scheme.algorithm).unwrap().as_str().unwrap().to_uppercase();
        let what = signed_in(scheme);
        match told.iter_mut().find(|(_, other)| *other == what) {
            Some((algorithms, _)) => algorithms.push(algorithm),
            None => told.push((vec![algorithm], what)),
        }
    }
    let told = told.into_iter().map(|(mut algorithms, what)| {
        algorithms.dedup();
        if algorithms == ["TOKEN"] {
            format!("nothing: a credential {what}")
        } else {
            algorithms.join(", ") + &what
        }
    });
    told.collect::<Vec<_>>().join("; ")
}

fn signed_in(scheme: &SchemeWords) -> String {
    let place = scheme.signature.from.join(", ").replace("header:", "");
    if scheme.algorithm == Algorithm::Token {
        return format!("in `{place}`");
    }
    let holds = |mark: &str| scheme.content.iter().chain(&scheme.also).any(|text| text.contains(mark));
    let mut what = Vec::new();
    what.extend((scheme.signature.format == SignatureFormat::Jwt).then_some("claims"));
    for (mark, name) in
        [("{url", "URL"), ("body", "body"), ("form_sorted", "form"), ("{parameters", "parameters")]
    {
        what.extend(holds(mark).then_some(name));
    }
    if what.is_empty() {
        what.push("values");
    }
    let partly = match compile(scheme, None, None).unwrap().assurance {
        Assurance::Partial => " (`partial`)",
        Assurance::Verified | Assurance::Authenticated => "",
    };
    format!(" of {} in `{place}`{partly}", what.join(" and "))
}

fn signed_time(scheme: &SchemeWords) -> String {
    match &scheme.timestamp {
        None => "none".to_owned(),
        Some(time) => time.tolerance.map_or_else(|| "5m".to_owned(), |tolerance| tolerance.to_string()),
    }
}

fn named_by(scheme: &SchemeWords) -> String {
    let recipe = compile(scheme, None, None).unwrap();
    let signed = recipe.id.iter().any(|source| recipe.identifies(source));
    if signed { "id" } else { "content" }.to_owned()
}

#[test]
fn the_demo_shows_what_the_readme_shows() {
    let output = hookgate(&["demo"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    let table: Vec<_> = shown
        .lines()
        .skip_while(|l| !l.trim_start().starts_with("sent"))
        .take_while(|l| !l.is_empty())
        .collect();
    for counted in ["reason=\"accepted\"", "reason=\"signature_mismatch\"", "reason=\"duplicate\""] {
        let is_it =
            |line: &str| line.trim_start().starts_with("hookgate_requests_total{") && line.contains(counted);
        assert!(shown.lines().any(is_it), "{counted}: {shown}");
    }
    let verdict = shown.lines().last().unwrap();
    hold(README, "demo", &block(&format!("{}\n\n{verdict}", table.join("\n"))));
}

/// What the ten minutes say, on a chart of others.
#[test]
fn the_ten_minutes_say_what_stands_there() {
    const GATE: &str = "--image registry.example/hookgate:0.1.0 --provider github --path /hooks/github";
    const WHOLE: &str = "--trusted-proxy 10.244.0.0/16 --network-policy=ingress-nginx";
    let steps = [
        "hookgate inject parcel-desk.yaml".to_owned(),
        format!("hookgate inject {GATE} parcel-desk.yaml >/dev/null"),
        format!("hookgate inject {GATE} {WHOLE} parcel-desk.yaml >gated.yaml"),
        format!("hookgate inject {GATE} {WHOLE} --diff parcel-desk.yaml | grep '^[-+] ' | cut -c 1-90 | head -16"),
        "hookgate inject --uninject gated.yaml | hookgate inject --provider gihub --image registry.example/hookgate:0.1.0"
            .to_owned(),
    ];
    let folder = std::env::temp_dir().join(format!("hookgate-ten-minutes-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::copy("tests/deploy/inject/charts/starter.yaml", folder.join("parcel-desk.yaml")).unwrap();
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_hookgate")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut page = String::new();
    for step in steps {
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &format!("exec 2>&1; {step}")]).current_dir(&folder).env("PATH", &path);
        let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
        write!(page, "$ {step}\n{told}").unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
    hold(POD, "ten-minutes", &block(&page).replace("```text", "```console"));
}

/// Replaces what stands between the markers of `name` on a page, or asserts that it is up to date.
fn hold(page: &str, name: &str, fresh: &str) {
    // Renewing rewrites the file: one section at a time.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let text = read(page);
    let stands = between(&text, name);
    let fresh = format!("\n{}\n\n", fresh.trim());
    if std::env::var_os("UPDATE_README").is_some() {
        let begin = text.find(&stands_after(name)).unwrap() + stands_after(name).len();
        let (before, after) = (&text[..begin], &text[begin + stands.len()..]);
        fs::write(page, format!("{before}{fresh}{after}")).unwrap();
    } else {
        assert_eq!(stands, fresh, "{name} is out of date: UPDATE_README=1 cargo test --test readme");
    }
}

fn block(text: &str) -> String {
    format!("```text\n{}\n```", text.trim_end())
}

//! The variables `HOOKGATE_…`. In a pod they are the configuration, so one that means nothing is an
//! error: it may be a misspelt protection.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use crate::config::{Problem, closest};

/// Name and value of each that is set to something.
pub type Variables = BTreeMap<String, OsString>;

/// Those that have no flag.
const WITHOUT_FLAG: [&str; 2] = ["HOOKGATE_SECRET", "HOOKGATE_OUTPUT"];

/// What this project's own tests and their scripts are told in the same way, and what Cargo tells
/// whatever it runs.
const OF_TESTS: [&str; 25] = [
    "HOOKGATE_PINGORA",
    "HOOKGATE_REVISION",
    "HOOKGATE_RUSTC",
    "HOOKGATE_BIN",
    "HOOKGATE_DISK",
    "HOOKGATE_DISK_SEED",
    "HOOKGATE_FAULT_RUNS",
    "HOOKGATE_FAULT_SEED",
    "HOOKGATE_FUZZ_TARGET",
    "HOOKGATE_KILLS",
    "HOOKGATE_KILL_SEED",
    "HOOKGATE_LAWS",
    "HOOKGATE_LAW_SEED",
    "HOOKGATE_MUTATIONS",
    "HOOKGATE_MUTATION_SEED",
    "HOOKGATE_OUTAGE_SECONDS",
    "HOOKGATE_STRANGE_SEED",
    "HOOKGATE_TEST_FIRST",
    "HOOKGATE_TEST_FOLDER",
    "HOOKGATE_TEST_FORGERIES",
    "HOOKGATE_TEST_KILLS",
    "HOOKGATE_TEST_RUNS",
    "HOOKGATE_TEST_SEED",
    "HOOKGATE_TEST_STORED",
    "HOOKGATE_TIMING_SAMPLES",
];

/// Lists whose key in the file is another word than the flag.
const SPELLINGS: [(&str, &str); 3] = [
    ("HOOKGATE_ALLOW_IP", "HOOKGATE_ALLOW_IPS"),
    ("HOOKGATE_OPS_HOST", "HOOKGATE_OPS_HOSTS"),
    ("HOOKGATE_TRUSTED_PROXY", "HOOKGATE_TRUSTED_PROXIES"),
];

/// An empty variable is as one that is not set: a pod's manifest cannot leave one out.
pub fn ours() -> Variables {
    let all = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let named = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named.filter(|(name, _)| name.starts_with("HOOKGATE_")).collect()
}

/// The commands, reading what is set, and the file's spelling of a list where that is set.
pub fn adapted(mut command: Command, variables: &Variables) -> Command {
    let adapt = |arg: Arg| {
        let Some(twin) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else { return arg };
        let spelled = SPELLINGS.iter().find(|(flag, file)| *flag == twin && variables.contains_key(*file));
        match spelled {
            _ if variables.contains_key(&twin) => arg,
            Some((_, file)) => arg.env(*file),
            None => arg.env(None),
        }
    };
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| sub.mut_args(adapt));
    }
    command
}

/// What is wrong with the variables that are set.
pub fn faults(variables: &Variables) -> Vec<Problem> {
    let twins = twins();
    let known: Vec<_> = twins.iter().map(String::as_str).chain(WITHOUT_FLAG).collect();
    let mut faults = Vec::new();
    for (flag, file) in SPELLINGS {
        if variables.contains_key(flag) && variables.contains_key(file) {
            faults.push(problem(flag, format!("{file} is set as well, and means the same: keep one")));
        }
    }
    let spelled = |name: &str| SPELLINGS.iter().any(|(_, file)| *file == name);
    for (name, value) in variables {
        let is_known = known.contains(&name.as_str()) || OF_TESTS.contains(&name.as_str());
        if is_known || spelled(name) || is_service_link(name, value) {
            continue;
        }
        // What all names begin with makes none of them nearer.
        let bare = |name: &'_ str| name["HOOKGATE_".len()..].to_owned();
        let (word, words): (_, Vec<_>) = (bare(name), known.iter().map(|name| bare(name)).collect());
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let remedy = match closest(&word, &words) {
            Some(close) => format!("did you mean HOOKGATE_{close}?"),
            None => "hookgate run --help names the flags: --max-body is HOOKGATE_MAX_BODY".to_owned(),
        };
        faults.push(problem(name, format!("this is not a setting: {remedy}")));
    }
    faults
}

fn problem(name: &str, message: String) -> Problem {
    Problem { place: None, key: name.to_owned(), message }
}

/// The variable that a flag's value came from, if it was not on the command line.
pub fn origin(flag: &str, args: &[OsString], variables: &Variables) -> Option<String> {
    let long = flag.split([' ', '=']).next()?;
    let given = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(long));
    let twin = format!("HOOKGATE_{}", long.strip_prefix("--")?.replace('-', "_").to_uppercase());
    let spelled = SPELLINGS.iter().find(|(flag, _)| *flag == twin).map(|(_, file)| (*file).to_owned());
    let set = [Some(twin), spelled].into_iter().flatten().find(|name| variables.contains_key(name));
    set.filter(|_| !args.iter().any(given))
}

/// The variables of all flags of all commands.
fn twins() -> Vec<String> {
    let of = |command: &Command| -> Vec<String> {
        let twins = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned));
        twins.collect()
    };
    super::command().get_subcommands().flat_map(of).collect()
}

/// What Kubernetes puts into every pod of a namespace with a Service called hookgate or hookgate-….
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let rest = &name["HOOKGATE".len()..];
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    let of_port = |tail: &str| {
        let mut parts = tail.split('_');
        let (number, protocol) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        number.parse::<u16>().is_ok() && matches!(protocol, "TCP" | "UDP" | "SCTP")
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && is_url())
        || rest.match_indices("_PORT_").any(|(at, mark)| of_port(&rest[at + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(variables: &[(&str, &str)]) -> Variables {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    }

    #[test]
    fn a_variable_that_means_nothing_is_told_with_the_nearest_one() {
        for (name, close) in [
            ("HOOKGATE_PROVIDR", "HOOKGATE_PROVIDER"),
            ("HOOKGATE_TRUSTED_PROXYS", "HOOKGATE_TRUSTED_PROXY"),
            ("HOOKGATE_SECRET_FILES", "HOOKGATE_SECRET_FILE"),
            ("HOOKGATE_SERET", "HOOKGATE_SECRET"),
        ] {
            let told = faults(&set(&[(name, "x")]))[0].to_string();
            assert!(told.contains(name) && told.contains(&format!("did you mean {close}")), "{told}");
        }
        assert!(
            faults(&set(&[("HOOKGATE_COFFEE_MACHINE_LIGHTS", "x")]))[0].message.contains("is not a setting")
        );
        assert!(faults(&set(&[("HOOKGATE_ALLOW_IPS", "::1")])).is_empty(), "the file's spelling");
        assert_eq!(faults(&set(&[("HOOKGATE_ALLOW_IPS", "::1"), ("HOOKGATE_ALLOW_IP", "::1")])).len(), 1);
    }

    #[test]
    fn service_links_of_kubernetes_pass() {
        for (name, value) in [
            ("HOOKGATE_SERVICE_HOST", "10.0.0.1"),
            ("HOOKGATE_SERVICE_PORT", "80"),
            ("HOOKGATE_SERVICE_PORT_HTTP", "80"),
            ("HOOKGATE_PORT", "tcp://10.0.0.1:80"),
            ("HOOKGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("HOOKGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("HOOKGATE_OPS_SERVICE_HOST", "10.0.0.1"),
            ("HOOKGATE_OPS_PORT_17090_TCP_PROTO", "tcp"),
        ] {
            assert!(faults(&set(&[(name, value)])).is_empty(), "{name}");
        }
        assert_eq!(faults(&set(&[("HOOKGATE_PORT", "8080")])).len(), 1, "somebody meant --listen");
    }
}

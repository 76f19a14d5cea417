//! `hookgate inject`: put the gate into Kubernetes manifests.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, FromArgMatches};

use super::run::INVALID_CONFIGURATION;
use crate::config::flags::{Given, RunArgs};
use crate::config::located::Located;
use crate::config::memory::Bound;
use crate::config::{Config, Origin};
use crate::files;
use crate::inject::{self, Done, Judged, Manifests, Mount, Request, Settings, Source, Words};

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct InjectArgs {
    /// First: only these have variables. `HOOKGATE_SERVICE_PORT` is what Kubernetes says of a Service.
    #[command(flatten)]
    pub run: RunArgs,

    /// Files with manifests; standard input if none is named, or -
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The gate's image, as it is named in your registry. It has no default: none is published
    #[arg(long, value_name = "IMAGE", help_heading = "What is put where")]
    pub image: Option<String>,

    /// Workload to put the gate into, by NAME or KIND/NAME; repeatable [default: those annotated
    /// hookgate/inject: "true", else the only one]
    #[arg(long = "workload", value_name = "NAME", value_delimiter = ',', help_heading = "What is put where")]
    pub workloads: Vec<String>,

    /// Container of the application [default: the only one]
    #[arg(long, value_name = "NAME", help_heading = "What is put where")]
    pub container: Option<String>,

    /// Service whose traffic the gate takes; repeatable [default: the only one that leads to the workload]
    #[arg(long = "service", value_name = "NAME", value_delimiter = ',', help_heading = "What is put where")]
    pub services: Vec<String>,

    /// Port of the Service, by name or number; repeatable [default: the only one]
    #[arg(
        long = "service-port",
        value_name = "PORT",
        value_delimiter = ',',
        help_heading = "What is put where"
    )]
    pub service_ports: Vec<String>,

    /// Secret with the signing secrets, mounted at /etc/hookgate/secrets [default: webhook-secrets]
    #[arg(long, value_name = "NAME", help_heading = "What is put where")]
    pub secret_name: Option<String>,

    /// ConfigMap among the manifests that has the configuration as hookgate.yaml; instead of --config, which
    /// makes one of a file here
    #[arg(long, value_name = "NAME", help_heading = "What is put where")]
    pub config_map: Option<String>,

    /// Another volume of the gate, KIND/NAME:PATH, where KIND is secret, configmap, pvc, or volume for one that the
    /// pod has; repeatable
    #[arg(long = "mount", value_name = "MOUNT", value_delimiter = ',', help_heading = "What is put where")]
    pub mounts: Vec<Mount>,

    /// An ordinary container, for Kubernetes before 1.29, which has no native sidecars
    #[arg(long, help_heading = "What is put where")]
    pub legacy: bool,

    /// Add a NetworkPolicy that closes the application's port, and opens the gate's to these namespaces, or to all
    #[arg(long, value_name = "NAMESPACE", num_args = 0.., require_equals = true, value_delimiter = ',', help_heading = "What is put where")]
    pub network_policy: Option<Vec<String>>,

    /// Add a PodMonitor for the Prometheus operator; with --network-policy, these namespaces may ask for metrics
    #[arg(long, value_name = "NAMESPACE", num_args = 0.., require_equals = true, value_delimiter = ',', help_heading = "What is put where")]
    pub pod_monitor: Option<Vec<String>>,

    /// Take the gate out again
    #[arg(long, help_heading = "What is put where")]
    pub uninject: bool,

    /// Print what changes, instead of the manifests
    #[arg(long, help_heading = "What is put where")]
    pub diff: bool,

    /// Take warnings for errors
    #[arg(long, help_heading = "What is put where")]
    pub strict: bool,
}

/// `-h` shows what is inject's own, `--help` the flags of `run` as well.
pub fn in_help(command: clap::Command) -> clap::Command {
    let of_run = flags();
    let command = command.mut_args(|arg| {
        let is_of_run =
            arg.get_long().is_some_and(|long| long == "config" || of_run.iter().any(|flag| flag == long));
        let arg = arg.hide_env(true);
        if is_of_run { arg.hide_short_help(true) } else { arg }
    });
    command.after_help(
        "Every flag of `hookgate run` is a setting of the gate (--help shows them); files are named as in the pod, and\n\
         --config is read here. An annotation hookgate/NAME says for one workload what --NAME says for all.\n\
         Errors and warnings are on standard error. On an error nothing is printed, and the exit code is 78.",
    )
}

/// The flags of `run` that are settings, in the order of the help.
fn flags() -> Vec<String> {
    let command = RunArgs::augment_args(clap::Command::new("hookgate"));
    let names = command.get_arguments().filter_map(Arg::get_long).filter(|name| *name != "config");
    names.map(str::to_owned).collect()
}

pub fn inject(args: &InjectArgs, matches: &ArgMatches) -> ExitCode {
    let done = sources(&args.files).and_then(|sources| {
        let manifests = Manifests::parse(&sources)?;
        if args.uninject {
            inject::uninject(manifests, &args.workloads)
        } else {
            inject::inject(manifests, &request(args, matches)?, &flags(), &judge)
        }
    });
    match done {
        Ok(done) => print(args, &done),
        Err(faults) => {
            for fault in faults {
                eprintln!("{}", super::shown(&fault));
            }
            ExitCode::from(INVALID_CONFIGURATION)
        }
    }
}

fn print(args: &InjectArgs, done: &Done) -> ExitCode {
    for (kind, lines) in [("warning", &done.warnings), ("note", &done.notes)] {
        for line in lines {
            eprintln!("{kind}: {}", super::shown(line));
        }
    }
    if args.strict && !done.warnings.is_empty() {
        return ExitCode::from(INVALID_CONFIGURATION);
    }
    let text = if args.diff { difference(done) } else { done.manifests.render() };
    // A reader that has seen enough, such as `head`, is no failure; a full disk is.
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write the manifests: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Lines that change. Documents that change are compared as they are written then, so that only what was changed
/// differs.
fn difference(done: &Done) -> String {
    let (before, after) = (done.manifests.original(), done.manifests.render());
    similar::TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(3)
        .header("before", "after")
        .to_string()
}

fn sources(files: &[PathBuf]) -> Result<Vec<Source>, Vec<String>> {
    let from_input = |path: &PathBuf| path == Path::new("-");
    if files.is_empty() && io::stdin().is_terminal() {
        return Err(vec![
            "no manifests: name files, or write for example `kubectl kustomize . | hookgate inject …`"
                .to_owned(),
        ]);
    }
    let mut sources = Vec::new();
    let mut faults = Vec::new();
    let input = [PathBuf::from("-")];
    for path in if files.is_empty() { &input } else { files } {
        let name = if from_input(path) { "stdin".to_owned() } else { path.display().to_string() };
        let read = if from_input(path) { standard_input() } else { files::read(path) };
        match read.map(String::from_utf8) {
            Ok(Ok(text)) => sources.push(Source { name, text }),
            Ok(Err(error)) => {
                let byte = error.utf8_error().valid_up_to();
                faults.push(format!("{name}: no UTF-8 at byte {byte}: write it as text"));
            }
            Err(error) => faults.push(format!("{name}: cannot be read: {error}")),
        }
    }
    if faults.is_empty() { Ok(sources) } else { Err(faults) }
}

fn standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(files::LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > files::LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", files::LARGEST >> 20)));
    }
    Ok(bytes)
}

fn request(args: &InjectArgs, matches: &ArgMatches) -> Result<Request, Vec<String>> {
    let config = match &args.run.config {
        None => None,
        Some(Located { value: path, .. }) => {
            let read = files::read(path).map_err(|error| error.to_string());
            let text =
                read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned()));
            let shown = path.display().to_string();
            Some((
                shown.clone(),
                text.map_err(|error| vec![format!("--config {shown}: cannot be read: {error}")])?,
            ))
        }
    };
    Ok(Request {
        words: Words {
            image: args.image.clone(),
            container: args.container.clone(),
            services: args.services.clone(),
            service_ports: args.service_ports.clone(),
            secret_name: args.secret_name.clone(),
            config_map: args.config_map.clone(),
            mounts: args.mounts.clone(),
            legacy: args.legacy,
            settings: given(matches),
        },
        workloads: args.workloads.clone(),
        config,
        network_policy: args.network_policy.clone(),
        pod_monitor: args.pod_monitor.clone(),
    })
}

/// The settings of the gate as they were written, by flag or in the environment.
fn given(matches: &ArgMatches) -> Vec<(String, String)> {
    let command = RunArgs::augment_args(clap::Command::new("hookgate"));
    let mut given = Vec::new();
    for arg in command.get_arguments().filter(|arg| arg.get_id() != "config") {
        let id = arg.get_id().as_str();
        let by_user =
            matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if let (true, Some(long), Some(raw)) = (by_user, arg.get_long(), matches.get_raw(id)) {
            let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
            given.push((long.to_owned(), values.join(",")));
        }
    }
    given
}

/// As `check` judges them, with the files of the pod.
fn judge(settings: &Settings) -> Result<Judged, Vec<String>> {
    let mut flags = settings.flags.to_vec();
    let config = load(settings, &flags)?;
    for (flag, value) in settings.defaults {
        let key = flag.replace('-', "_");
        if config.settings.iter().any(|setting| setting.key == key && setting.origin == Origin::Default) {
            flags.push(((*flag).to_owned(), value.clone()));
        }
    }
    let config = load(settings, &flags)?;
    let sockets = &config.startup.sockets;
    let all = || sockets.listen_tls.iter().chain(&sockets.listen).chain([&sockets.ops_listen]);
    if let Some(closed) = all().find(|address| address.ip().is_loopback() || address.port() == 0) {
        return Err(vec![format!(
            "{closed} cannot be reached from other pods and by the kubelet: listen on 0.0.0.0 and a port"
        )]);
    }
    let mut traffic = sockets.listen_tls.iter().chain(&sockets.listen).map(std::net::SocketAddr::port);
    Ok(Judged {
        environment: flags.iter().map(|(flag, value)| (twin(flag), value.clone())).collect(),
        traffic: traffic.next().unwrap_or_default(),
        others: traffic.collect(),
        ops: sockets.ops_listen.port(),
        memory: Bound::of(&config.startup, &config.routes).total().div_ceil(1 << 20),
        shares: config.startup.shared_store.is_some(),
        upstream: config.startup.upstream.to_string(),
        notices: config.notices.clone(),
    })
}

fn twin(flag: &str) -> String {
    format!("HOOKGATE_{}", flag.replace('-', "_").to_uppercase())
}

fn load(settings: &Settings, flags: &[(String, String)]) -> Result<Config, Vec<String>> {
    let command = RunArgs::augment_args(clap::Command::new("hookgate").no_binary_name(true));
    let command = command.mut_args(|arg| arg.env(None)); // what was set there is among the flags already
    let words = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let parsed = command.try_get_matches_from(words).and_then(|matches| RunArgs::from_arg_matches(&matches));
    let mut args = parsed.map_err(|error| {
        let text = error.to_string();
        let first: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        vec![first.join(" ").trim_start_matches("error: ").to_owned()]
    })?;
    let mut files = settings.files.clone();
    args.config = settings.config.map(|(shown, text)| {
        files.known.insert(PathBuf::from(shown), text.clone().into_bytes());
        PathBuf::from(shown).into()
    });
    let given = Given { args, secret: None, pod: Some(files) };
    Config::load(&given).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

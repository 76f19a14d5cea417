//! `hookgate providers [NAME]`: the catalogue, or one preset as it is written.

use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::config::provider::{PRESETS, preset, unknown};

#[derive(Debug, Args)]
pub struct ProvidersArgs {
    /// Show this preset as YAML
    name: Option<String>,
}

pub fn providers(args: &ProvidersArgs) -> ExitCode {
    match &args.name {
        None => list(),
        Some(name) => match PRESETS.iter().find(|(known, _)| known == name) {
            Some((_, text)) => print(text.trim_end()),
            None => {
                eprintln!("{}", unknown(name));
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn list() {
    let width = PRESETS.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, _) in PRESETS {
        let title = preset(name).map(|p| p.title).unwrap_or_default();
        print(format_args!("{name:width$}  {title}"));
    }
}

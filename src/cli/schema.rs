//! `hookgate schema`: the JSON Schema of the configuration file, from the types that read it.

use std::process::ExitCode;

use crate::config::file::File;

pub fn schema() -> ExitCode {
    super::print(format_args!("{:#}", schemars::schema_for!(File).to_value()));
    ExitCode::SUCCESS
}

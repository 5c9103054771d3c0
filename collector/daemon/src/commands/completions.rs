//! `dichroic completions`: completions for a shell.

use crate::cli::{self, Cli};
use clap::CommandFactory;
use std::process::ExitCode;

/// Prints the completions of a shell.
pub fn completions(args: &cli::Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dichroic", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

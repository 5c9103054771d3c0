//! `dichroic completions`: completions for a shell.

use super::error::CommandError;
use super::output::print;
use crate::cli::{self, Cli};
use clap::CommandFactory;

/// Prints the completion script of a shell.
pub fn completions(args: &cli::Completions) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dichroic", &mut script);
    Ok(print(String::from_utf8_lossy(&script).trim_end())?)
}

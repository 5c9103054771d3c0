//! The commands other than `run`: each sends requests to a running collector or a node, and prints the result as text or JSON.

pub mod attach;
pub mod catalog;
pub mod check;
pub mod completions;
pub mod destination;
pub mod discover;
pub mod error;
pub mod ledger;
pub mod lint;
pub mod man;
pub mod output;
pub mod tap;

use crate::cli::Cli;
use clap::Parser;
use error::CommandError;
use output::OutputError;
use std::io::{self, Write};
use std::process::ExitCode;

/// The arguments of the process. Prints help, the version or a usage error, and returns the exit code then.
pub fn arguments() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let printed = error.print().and_then(|()| io::stdout().flush());
        match printed {
            Err(failed) if !error.use_stderr() => finish(Err(OutputError::from(failed).into())),
            _ => error
                .exit_code()
                .try_into()
                .map_or(ExitCode::FAILURE, |code: u8| code.into()),
        }
    })
}

/// Runs the future of a command and returns the exit code.
pub fn run(command: impl Future<Output = Result<(), CommandError>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => finish(runtime.block_on(command)),
        Err(error) => finish(Err(CommandError::Start(error))),
    }
}

/// Prints the error of a command and returns the exit code.
pub fn finish(result: Result<(), CommandError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(message) = error.message() {
        output::message(&message);
    }
    error.exit_code().into()
}

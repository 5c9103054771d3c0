//! The collector: its command line, configuration, listeners and threads.
#![forbid(unsafe_code)]

mod admin;
mod attach;
mod cli;
mod commands;
mod config;
mod limit_drops;
mod lint;
mod listen;
mod logging;
mod runtime;
mod self_telemetry;

use cli::Command;
use std::process::ExitCode;

/// Parses the arguments and runs the command, in `runtime` or `commands`.
pub fn main() -> ExitCode {
    let cli = match commands::arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(args) => runtime::run::run(&args),
        Command::Check(args) => commands::finish(commands::check::check(&args)),
        Command::Completions(args) => commands::finish(commands::completions::completions(&args)),
        Command::Man(args) => commands::finish(commands::man::man(&args)),
        Command::Tap(args) => commands::run(commands::tap::tap(args)),
        Command::Catalog(args) => commands::run(commands::catalog::catalog(args)),
        Command::Attach(args) => commands::run(commands::attach::attach(args)),
        Command::Detach(args) => commands::run(commands::attach::detach(args)),
        Command::Discover(args) => commands::run(commands::discover::discover(args)),
        Command::Lint(args) => commands::run(commands::lint::lint(args)),
        Command::Ledger(args) => commands::run(commands::ledger::ledger(args)),
    }
}

/// Reads and checks the text of a configuration file.
///
/// # Errors
/// The message that `dichroic check` prints.
pub fn check_configuration(text: &str) -> Result<(), String> {
    let config = config::parse(text, "configuration").map_err(|error| error.to_string())?;
    config::loaded::targets(&config, &[]).map_err(|error| error.to_string())?;
    Ok(())
}

//! `dichroic`: the binary of the collector. Parses the arguments; the commands are in `runtime` and `commands`.
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

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match commands::arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(args) => runtime::run::run(&args),
        Command::Check(args) => commands::finish(commands::check::check(&args)),
        Command::Completions(args) => commands::finish(commands::completions::completions(&args)),
        Command::Tap(args) => commands::run(commands::tap::tap(args)),
        Command::Catalog(args) => commands::run(commands::catalog::catalog(args)),
        Command::Attach(args) => commands::run(commands::attach::attach(args)),
        Command::Detach(args) => commands::run(commands::attach::detach(args)),
        Command::Discover(args) => commands::run(commands::discover::discover(args)),
        Command::Lint(args) => commands::run(commands::lint::lint(args)),
        Command::Ledger(args) => commands::run(commands::ledger::ledger(args)),
    }
}

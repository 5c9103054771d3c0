//! `dichroic`: the collector's binary. Arguments here, everything else in its module.
#![forbid(unsafe_code)]

mod admin;
mod attach;
mod cli;
mod commands;
mod config;
mod lint;
mod listen;
mod logging;
mod runtime;
mod self_telemetry;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => runtime::run::run(&args),
        Command::Check(args) => commands::check::check(&args),
        Command::Completions(args) => commands::completions::completions(&args),
        Command::Tap(args) => commands::finish(commands::tap::tap(args)),
        Command::Catalog(args) => commands::finish(commands::catalog::catalog(args)),
        Command::Attach(args) => commands::finish(commands::attach::attach(args)),
        Command::Detach(args) => commands::finish(commands::attach::detach(args)),
        Command::Discover(args) => commands::finish(commands::discover::discover(args)),
        Command::Lint(args) => commands::finish(commands::lint::lint(args)),
        Command::Ledger(args) => commands::finish(commands::ledger::ledger(args)),
    }
}

//! `dichroic check`: is this file a configuration?

use super::line;
use crate::cli;
use crate::config::load;
use crate::run::BAD_CONFIG;
use std::process::ExitCode;

/// Checks, and prints what is in force with `--print`.
pub fn check(args: &cli::Check) -> ExitCode {
    match load(&args.config) {
        Ok(config) if args.print => match serde_saphyr::to_string(&config) {
            Ok(text) => {
                line(text.trim_end());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("dichroic: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(_) => {
            line(&format!("{}: good", args.config.display()));
            ExitCode::SUCCESS
        }
        Err(bad) => {
            eprintln!("dichroic: {bad}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

//! `dichroic check`: is this file a configuration?

use super::{line, plain_lines};
use crate::cli;
use crate::config::load;
use crate::runtime::run::BAD_CONFIG;
use std::process::ExitCode;

/// Checks, and prints what is in force with `--print`.
pub fn check(args: &cli::Check) -> ExitCode {
    match load(&args.config) {
        Ok(config) if args.print => match serde_saphyr::to_string(&config) {
            Ok(text) => {
                text.trim_end().lines().for_each(line);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("dichroic: {}", plain_lines(&error.to_string()));
                ExitCode::FAILURE
            }
        },
        Ok(_) => {
            line(&format!("{}: good", args.config.display()));
            ExitCode::SUCCESS
        }
        Err(bad) => {
            eprintln!("dichroic: {}", plain_lines(&bad.to_string()));
            ExitCode::from(BAD_CONFIG)
        }
    }
}

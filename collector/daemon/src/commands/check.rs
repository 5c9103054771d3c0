//! `dichroic check`: whether a configuration file can be used, and what a file may contain.

use super::{line, plain_lines, print};
use crate::cli;
use crate::config::{load, schema};
use crate::runtime::run::BAD_CONFIG;
use std::process::ExitCode;

/// Checks a file and prints what was asked for.
pub fn check(args: &cli::Check) -> ExitCode {
    if args.schema {
        print(&format!("{:#}", schema::document()));
        return ExitCode::SUCCESS;
    }
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
            line(&format!("{}: valid", args.config.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("dichroic: {}", plain_lines(&error.report()));
            ExitCode::from(BAD_CONFIG)
        }
    }
}

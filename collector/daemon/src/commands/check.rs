//! `dichroic check`: validates a configuration file, prints it, or prints the JSON Schema.

use super::error::CommandError;
use super::output::{line, print};
use crate::cli;
use crate::config::{load, schema};

/// Validates the file and prints the result.
pub fn check(args: &cli::Check) -> Result<(), CommandError> {
    if args.schema {
        return Ok(print(&format!("{:#}", schema::document()))?);
    }
    let config = load(&args.config).map_err(CommandError::InvalidConfig)?;
    if args.print {
        let text = serde_saphyr::to_string(&config)?;
        Ok(text.trim_end().lines().try_for_each(line)?)
    } else {
        Ok(line(&format!("{}: valid", args.config.display()))?)
    }
}

//! `dichroic man`: a manual page for the program and for each of its commands.

use super::error::CommandError;
use crate::cli::{self, Cli};
use clap::CommandFactory;
use std::{fs, io};

/// Writes `dichroic.1`, `dichroic-run.1` and so on.
pub fn man(args: &cli::Man) -> Result<(), CommandError> {
    let written = write(args);
    written.map_err(|error| CommandError::Manual(args.directory.clone(), error))
}

fn write(args: &cli::Man) -> io::Result<()> {
    fs::create_dir_all(&args.directory)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &args.directory)
}

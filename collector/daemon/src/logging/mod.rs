//! The collector's own log: to standard error, for people on a terminal, as JSON lines elsewhere.
//!
//! `DICHROIC_LOG` takes filters such as `debug` or `info,dichroic_receiver_otlp=debug`; `DICHROIC_LOG_FORMAT` takes `text` or `json`.

mod rate_limit;

use rate_limit::Calm;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. Called once.
pub fn start() {
    let filter = EnvFilter::try_from_env("DICHROIC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("DICHROIC_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Calm::new(json))
        .with_target(true);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .init();
    }
}

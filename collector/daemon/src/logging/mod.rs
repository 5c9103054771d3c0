//! The collector's log on standard error: text on a terminal, JSON lines otherwise.
//!
//! `DICHROIC_LOG` takes filters such as `debug` or `info,dichroic_receiver_otlp=debug`; `DICHROIC_LOG_FORMAT` takes `text` or `json`.

mod line;
mod output;
mod rate_limit;

use crate::self_telemetry::otlp::Export;
use line::Format;
pub use output::Output;
use rate_limit::RateLimitedWriter;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

const FORMAT: &str = "DICHROIC_LOG_FORMAT";

/// Starts the writer of standard error, which also takes the messages of a start that fails.
///
/// # Errors
/// The operating system refuses a thread or another file descriptor.
pub fn open() -> io::Result<Output> {
    Output::start(format())
}

/// The format that the variable chooses.
fn format() -> Format {
    match std::env::var(FORMAT).unwrap_or_default().as_str() {
        "json" => Format::Json,
        "text" => Format::Text,
        _ if io::stderr().is_terminal() => Format::Text,
        _ => Format::Json,
    }
}

/// Starts logging to `output`, and the layers of the OTLP export if there is one. Called once.
pub fn start(output: &Output, export: Option<&Export>) {
    let filters = std::env::var("DICHROIC_LOG").unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(RateLimitedWriter::new(format(), output.clone()))
        // They would be written with `eprintln!`, which panics when standard error cannot be written.
        .log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format() {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .boxed(),
    };
    // Only the export uses spans; without it they are disabled.
    let lines = lines.with_filter(filter(&filters).and(filter_fn(|meta: &Metadata<'_>| meta.is_event())));
    let mut layers = vec![lines.boxed()];
    layers.extend(
        export
            .into_iter()
            .flat_map(|export| export.layers(filter(&filters))),
    );
    tracing_subscriber::registry().with(layers).init();
    std::panic::set_hook(Box::new(log_panic));
    if let Err(reason) = parse(&filters) {
        tracing::warn!(value = filters, reason, "invalid DICHROIC_LOG; using info");
    }
    let format = std::env::var(FORMAT).unwrap_or_default();
    if !["", "json", "text"].contains(&format.as_str()) {
        tracing::warn!(
            value = format,
            "invalid DICHROIC_LOG_FORMAT: expected text or json"
        );
    }
}

/// The default hook writes to standard error itself, and may block.
fn log_panic(info: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = std::thread::current().name(),
        location = info.location().map(tracing::field::display),
        reason = info.payload_as_str(),
        backtrace,
        "panic"
    );
}

fn filter(text: &str) -> EnvFilter {
    parse(text).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// The filters of a text; `info` without one.
fn parse(text: &str) -> Result<EnvFilter, String> {
    const EXPECTED: &str =
        "expected a level (off, error, warn, info, debug, trace) or TARGET=LEVEL, separated by commas";
    let parts: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        return Ok(EnvFilter::new("info"));
    }
    // A word that is not a level would be taken for a target, and would turn off all others.
    let is_target = |part: &str| part.contains(['=', '[']) || part.starts_with("dichroic");
    if let Some(unknown) =
        (parts.iter()).find(|part| !is_target(part) && part.parse::<LevelFilter>().is_err())
    {
        return Err(format!("unknown level {unknown:?}: {EXPECTED}"));
    }
    EnvFilter::try_new(text).map_err(|error| format!("{error}: {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_targets_with_levels() {
        let check = |text: &str, expected: Result<&str, &str>| match (parse(text), expected) {
            (Ok(filter), Ok(expected)) => assert_eq!(filter.to_string(), expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{text:?} gives {found:?}"),
        };
        check("", Ok("info"));
        check("warn", Ok("warn"));
        check("DEBUG", Ok("debug"));
        check(
            "info,dichroic_receiver_otlp=debug",
            Ok("dichroic_receiver_otlp=debug,info"),
        );
        check("dichroic_receiver_otlp", Ok("dichroic_receiver_otlp=trace"));
        check("verbose", Err("unknown level \"verbose\""));
        check("info,loud", Err("unknown level \"loud\""));
        check("dichroic=loud", Err("expected a level"));
    }
}

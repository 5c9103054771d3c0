//! The collector's log on standard error: text on a terminal, JSON lines otherwise.
//!
//! `DICHROIC_LOG` takes filters such as `debug` or `info,dichroic_receiver_otlp=debug`; `DICHROIC_LOG_FORMAT` takes `text` or `json`.

mod rate_limit;

use crate::self_telemetry::otlp::Export;
use rate_limit::RateLimitedWriter;
use std::io::IsTerminal;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// Starts logging, and the layers of the OTLP export if there is one. Called once.
pub fn start(export: Option<&Export>) {
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("DICHROIC_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !terminal,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(RateLimitedWriter::new(json));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .boxed(),
    };
    // Only the export uses spans; without it they are disabled.
    let lines = lines.with_filter(filter().and(filter_fn(|meta: &Metadata<'_>| meta.is_event())));
    let mut layers = vec![lines.boxed()];
    layers.extend(export.into_iter().flat_map(|export| export.layers(filter())));
    tracing_subscriber::registry().with(layers).init();
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_env("DICHROIC_LOG").unwrap_or_else(|_| EnvFilter::new("info"))
}

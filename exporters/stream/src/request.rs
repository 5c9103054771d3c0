//! A subscription request, validated once for every transport. Errors name the parameter and a valid value.

use crate::config::Config;
use crate::filter::Filter;
use dichroic_model::Pattern;
use dichroic_wire::hello::{Cursor, OnFull, SubscribeKind};
use dichroic_wire::{Subscribe, limits};
use std::time::Duration;

/// A subscription that can be served.
#[derive(Debug, Clone)]
pub struct Request {
    /// Events, logs or metrics.
    pub kind: SubscribeKind,
    /// Names, any of which may match.
    pub patterns: Vec<Pattern>,
    /// Rows or series within them.
    pub filter: Filter,
    /// Of metrics: time between two scans of the store.
    pub every: Duration,
    /// Age of the oldest replayed row.
    pub replay: Option<Duration>,
    /// Where to resume; wins over `replay`.
    pub cursor: Option<Cursor>,
    /// Rows buffered.
    pub buffer: usize,
    /// Policy of a full buffer.
    pub on_full: OnFull,
}

/// An invalid subscription request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct BadRequest {
    /// The parameter.
    pub parameter: &'static str,
    /// What is wrong, and what is valid.
    pub message: String,
}

pub(crate) fn bad(parameter: &'static str, message: impl Into<String>) -> BadRequest {
    BadRequest {
        parameter,
        message: message.into(),
    }
}

impl Request {
    /// Checks a subscription.
    ///
    /// # Errors
    /// [`BadRequest`] for the first parameter that cannot be used.
    pub fn check(asked: &Subscribe, config: &Config) -> Result<Self, BadRequest> {
        check_counts(asked)?;
        let patterns: Result<Vec<_>, _> = asked.patterns.iter().map(|text| Pattern::new(text)).collect();
        let every = Duration::from_millis(asked.every_ms.unwrap_or(1_000).into());
        if asked.kind == SubscribeKind::Metric && asked.sample.is_some() {
            return Err(bad(
                "sample",
                "applies to events and logs only; for metrics use every_ms",
            ));
        }
        Ok(Request {
            kind: asked.kind,
            patterns: patterns.map_err(|error| bad("match", error.to_string()))?,
            filter: Filter::new(&asked.where_, asked.sample),
            every: every.max(config.min_every),
            replay: asked.replay_ms.map(|ms| Duration::from_millis(ms.into())),
            cursor: asked.cursor,
            buffer: asked.buffer.map_or(config.buffer_rows, |rows| rows as usize),
            on_full: asked.on_full.unwrap_or(OnFull::DropOldest),
        })
    }
}

/// Counts and lengths. The wire codec has checked them for a HELLO, but not for a query.
fn check_counts(asked: &Subscribe) -> Result<(), BadRequest> {
    let counted = |parameter, globs: &[String]| match globs.len() {
        1..=limits::PATTERNS => match globs
            .iter()
            .find(|g| !(1..=limits::PATTERN_BYTES).contains(&g.len()))
        {
            None => Ok(()),
            Some(glob) => Err(bad(
                parameter,
                format!("a pattern has {} bytes, allowed are 1 to 256", glob.len()),
            )),
        },
        n => Err(bad(parameter, format!("{n} patterns, allowed are 1 to 64"))),
    };
    counted("match", &asked.patterns)?;
    if asked.where_.len() > limits::WHERE_KEYS {
        return Err(bad(
            "where",
            format!("{} labels, allowed are 16", asked.where_.len()),
        ));
    }
    for globs in asked.where_.values() {
        counted("where", globs)?;
    }
    if let Some(rows) = asked.buffer
        && !limits::SUBSCRIBE_BUFFER_ROWS.contains(&rows.into())
    {
        return Err(bad("buffer", format!("{rows} rows, allowed are 64 to 1048576")));
    }
    match asked.sample {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(bad("sample", format!("{share}, allowed is above 0 to 1")))
        }
        _ => Ok(()),
    }
}

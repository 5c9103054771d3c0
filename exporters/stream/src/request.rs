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
    /// Name patterns; one must match.
    pub patterns: Vec<Pattern>,
    /// Selects rows or series among the matching names.
    pub filter: Filter,
    /// Time between two scans of the store, for metrics.
    pub every: Duration,
    /// Age of the oldest replayed row.
    pub replay: Option<Duration>,
    /// Where to resume; takes precedence over `replay`.
    pub cursor: Option<Cursor>,
    /// Size of the buffer, in rows.
    pub buffer: usize,
    /// Policy of a full buffer.
    pub on_full: OnFull,
    /// Longest time that rows wait for a fuller frame; `None`: the default.
    pub within: Option<Duration>,
}

/// An invalid subscription request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct BadRequest {
    /// The parameter.
    pub parameter: &'static str,
    /// The fault, and a valid value.
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
    /// [`BadRequest`] for the first invalid parameter.
    pub fn check(subscribe: &Subscribe, config: &Config) -> Result<Self, BadRequest> {
        check_counts(subscribe)?;
        let patterns: Result<Vec<_>, _> = subscribe.patterns.iter().map(|text| Pattern::new(text)).collect();
        let every = Duration::from_millis(subscribe.every_ms.unwrap_or(1_000).into());
        if subscribe.kind == SubscribeKind::Metric && subscribe.sample.is_some() {
            return Err(bad(
                "sample",
                "applies to events and logs only; for metrics use every_ms",
            ));
        }
        if subscribe.kind == SubscribeKind::Metric && subscribe.replay_ms.is_some() {
            let message = "applies to events and logs only; each point has the whole state of its series";
            return Err(bad("replay_ms", message));
        }
        if subscribe.kind == SubscribeKind::Metric && subscribe.within_ms.is_some() {
            return Err(bad(
                "within_ms",
                "applies to events and logs only; for metrics use every_ms",
            ));
        }
        Ok(Request {
            kind: subscribe.kind,
            patterns: patterns.map_err(|error| bad("match", error.to_string()))?,
            filter: Filter::new(&subscribe.where_, subscribe.sample),
            every: every.max(config.min_every),
            replay: subscribe.replay_ms.map(|ms| Duration::from_millis(ms.into())),
            cursor: subscribe.cursor,
            buffer: subscribe.buffer.map_or(config.buffer_rows, |rows| rows as usize),
            on_full: subscribe.on_full.unwrap_or(OnFull::DropOldest),
            within: subscribe.within_ms.map(|ms| Duration::from_millis(ms.into())),
        })
    }
}

/// Counts and lengths. The wire codec has checked them for a HELLO, but not for a query.
fn check_counts(subscribe: &Subscribe) -> Result<(), BadRequest> {
    let counted = |parameter, globs: &[String]| match globs.len() {
        1..=limits::PATTERNS => match globs
            .iter()
            .find(|g| !(1..=limits::PATTERN_BYTES).contains(&g.len()))
        {
            None => Ok(()),
            Some(glob) => Err(bad(
                parameter,
                format!("pattern of {} bytes; must be 1 to 256", glob.len()),
            )),
        },
        n => Err(bad(parameter, format!("{n} patterns; must be 1 to 64"))),
    };
    counted("match", &subscribe.patterns)?;
    if subscribe.where_.len() > limits::WHERE_KEYS {
        return Err(bad(
            "where",
            format!("{} labels; the maximum is 16", subscribe.where_.len()),
        ));
    }
    for globs in subscribe.where_.values() {
        counted("where", globs)?;
    }
    if let Some(rows) = subscribe.buffer
        && !limits::SUBSCRIBE_BUFFER_ROWS.contains(&rows.into())
    {
        return Err(bad("buffer", format!("{rows} rows; must be 64 to 1048576")));
    }
    if let Some(ms) = subscribe.within_ms
        && ms > limits::SUBSCRIBE_WITHIN_MS_MAX
    {
        return Err(bad("within_ms", format!("{ms}; must be 0 to 10000")));
    }
    match subscribe.sample {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(bad("sample", format!("{share}; must be above 0 and at most 1")))
        }
        _ => Ok(()),
    }
}

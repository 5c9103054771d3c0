//! The timestamps of a point.

use dichroic_model::UnixNanos;

/// When a point counts from, when it was taken, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Start of a cumulative or delta point; 0 when the sender does not state one.
    pub start: UnixNanos,
    /// When the value was taken; 0 when the sender does not state it.
    pub time: UnixNanos,
    /// When the collector received it.
    pub now: UnixNanos,
}

impl Times {
    /// A point without a start, taken when it is received.
    ///
    /// ```
    /// use dichroic_pipeline::Times;
    /// assert_eq!(Times::at(7), Times { start: 0, time: 7, now: 7 });
    /// ```
    pub fn at(now: UnixNanos) -> Self {
        Times {
            start: 0,
            time: now,
            now,
        }
    }
}

//! The timestamps of a point.

use dichroic_model::UnixNanos;

/// Start, time and time of receipt of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Start of a cumulative or delta point; 0 if not stated.
    pub start: UnixNanos,
    /// When the value was taken; 0 if not stated.
    pub time: UnixNanos,
    /// When the collector received it.
    pub now: UnixNanos,
}

impl Times {
    /// A point without a start, taken at the time of receipt.
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

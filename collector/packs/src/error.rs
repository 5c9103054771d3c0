//! Errors in definitions, expressions and units. Every message states what to write instead.

use crate::limits::{BOUNDS, EXPIRE_S_MIN, LABELS, PATH_STEPS};

/// Units that convert to a base unit.
const UNITS: &str = "native, ns, us, ms, s, min, h, By, kBy, MBy, GBy, KiBy, MiBy, GiBy, %, 1, and the units of Telemetry.Metrics";

/// An invalid definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// `name` has an empty part.
    #[error("invalid name: expected dotted words, such as checkout.duration")]
    Name,
    /// `event` has an empty part.
    #[error("invalid event {0:?}: expected a dotted name, such as my_app.checkout.stop")]
    Event(String),
    /// `event` has a wildcard.
    #[error("invalid event {0:?}: a definition names one event; wildcards are for subscriptions")]
    Wildcard(String),
    /// Neither `event` nor a name that contains it.
    #[error("event is missing; write event: NAME and measurement: KEY")]
    NoEvent,
    /// `measurement` without `event`.
    #[error("measurement without event; write event: NAME")]
    MeasurementWithoutEvent,
    /// A type that needs a measurement has none.
    #[error("measurement is missing; write measurement: KEY")]
    NoMeasurement,
    /// A counter has several measurements.
    #[error("a counter counts events; name at most one measurement")]
    CounterMeasurements,
    /// Several measurements would be one series.
    #[error("several measurements need measurement_tag: LABEL, a label that distinguishes their series")]
    NoMeasurementTag,
    /// The type has no buckets.
    #[error("buckets require type: distribution or type: summary")]
    BucketsOfType,
    /// A summary with explicit bounds.
    #[error("a summary has exponential buckets; write type: distribution for explicit bounds")]
    SummaryBounds,
    /// Bounds that are not ascending, not finite, or too many.
    #[error("invalid buckets: expected 1 to {BOUNDS} finite bounds in ascending order, without +Inf")]
    Bounds,
    /// `scale` outside its range.
    #[error("invalid scale: expected an integer from -4 to 4")]
    Scale,
    /// `octaves` outside its range.
    #[error("invalid octaves: expected [lo, hi] in ascending order, from -64 to 64")]
    Octaves,
    /// The type has no `monotonic`.
    #[error("monotonic requires type: sum")]
    MonotonicOfType,
    /// Too many labels.
    #[error("more than {LABELS} tags and labels")]
    Labels,
    /// A label in `tags` and in `labels`.
    #[error("label {0:?} is in tags and in labels; remove one of the two")]
    LabelTwice(String),
    /// A label with a template that the event does not have.
    #[error(
        "unknown template in label {label:?}, value {value:?}; write ${{prefix}} or a template of the event"
    )]
    LabelTemplate {
        /// The label.
        label: String,
        /// Its value, as it is written.
        value: String,
    },
    /// `expire_s` below its minimum.
    #[error("invalid expire_s: expected at least {EXPIRE_S_MIN}")]
    Expire,
    /// `series` of zero.
    #[error("invalid series: expected at least 1")]
    Series,
    /// Both `keep` and `drop`.
    #[error("keep and drop exclude each other; write one of them")]
    KeepAndDrop,
    /// `drop` with a comparison that cannot be negated.
    #[error("drop cannot compare with lt or gt; write keep with the opposite comparison")]
    DropOrder,
    /// Units of different dimensions.
    #[error("unit {from:?} does not convert to {to:?}; the units are {UNITS}")]
    Unit {
        /// Unit of the measurement.
        from: String,
        /// Unit of the metric.
        to: String,
    },
    /// A path of an expression.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// An invalid path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An empty step.
    #[error("path {0:?} has an empty step; write keys joined by dots, such as conn.status or commands.0.0")]
    Empty(String),
    /// Too many steps.
    #[error("path {0:?} has more than {PATH_STEPS} steps")]
    Long(String),
}

//! The classic view of exponential histograms: counts at bounds, as pages show them.
//!
//! The count at a bound is a lower bound of the true one: the values that are known to be at or below it. Those are the counts of the
//! buckets that end at or below it, and [`known`] counts of buckets that extend above it.

mod counts;
pub(crate) mod known;
mod steps;

pub use crate::series::values::KnownBelow;
pub use counts::ClassicCounts;
pub use steps::{Reach, Steps, standard};

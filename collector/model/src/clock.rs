//! The wall clock. Only this module reads it; all other code takes the time as an argument, so that tests can choose it.

use crate::UnixNanos;
use std::time::SystemTime;

/// Nanoseconds since the Unix epoch; 0 while the clock shows an earlier time.
pub fn now() -> UnixNanos {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as UnixNanos)
}

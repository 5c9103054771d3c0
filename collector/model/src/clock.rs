//! The wall clock. Only this module reads it; all other code takes the time as an argument, so that tests can choose it.
//!
//! The wall clock may be set, by an hour or by years. Timestamps of data and of messages follow it. What waits for a time to pass, such
//! as expiry, must not: it compares times of the *steady* clock, which agrees with the wall clock until that is set, and then goes on as
//! if nothing had happened. [`steady`] converts a recent result of [`now`].

use crate::UnixNanos;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Smaller differences between the clocks are delays between reading the one and the other.
const STEP: Duration = Duration::from_millis(100);

static START: LazyLock<(UnixNanos, Instant)> = LazyLock::new(|| (wall(), Instant::now()));
/// The wall clock minus the steady clock, in nanoseconds: 0 until the wall clock is set.
static OFFSET: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds since the Unix epoch; 0 while the clock shows an earlier time.
pub fn now() -> UnixNanos {
    let (wall_start, start) = *START;
    let wall = wall();
    let steady = wall_start.saturating_add(start.elapsed().as_nanos() as UnixNanos);
    let offset = wall.wrapping_sub(steady) as i64;
    if offset.abs_diff(OFFSET.load(Ordering::Relaxed)) > STEP.as_nanos() as u64 {
        OFFSET.store(offset, Ordering::Relaxed);
    }
    wall
}

/// A time of the wall clock, on the steady clock.
#[inline]
pub fn steady(unix: UnixNanos) -> UnixNanos {
    unix.saturating_add_signed(OFFSET.load(Ordering::Relaxed).saturating_neg())
}

/// A time of the steady clock, on the wall clock as it is now.
pub fn unix(steady: UnixNanos) -> UnixNanos {
    steady.saturating_add_signed(OFFSET.load(Ordering::Relaxed))
}

fn wall() -> UnixNanos {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as UnixNanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_while_the_wall_clock_is_not_set() {
        let before = now();
        std::thread::sleep(Duration::from_millis(2));
        let after = now();
        assert!(steady(after) > steady(before));
        assert_eq!((steady(after), unix(after), steady(5)), (after, after, 5));
    }
}

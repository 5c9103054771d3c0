//! When the next attempt to attach a node follows.
//!
//! A node that is down comes back: attempts follow with backoff. A node that refuses logs each attempt and does not change its mind:
//! attempts follow hourly, and at once when a file that the attempt reads changes, or the node restarts or stops.

use dichroic_beam_attach::Error;
use dichroic_beam_attach::attach::NodeTarget;
use dichroic_beam_attach::file::{Stamp, stamp};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause after a failure that heals by itself.
pub const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A connection of at least this time resets the backoff.
const STABLE: Duration = Duration::from_secs(30);
/// Pause after a refusal.
pub const REFUSED: Duration = Duration::from_secs(3600);
/// Refusals in sequence that are believed: a node that shuts down can cut a handshake short, which looks like one.
const BELIEVED: u32 = 2;
/// How often the files are examined meanwhile.
const EXAMINE: Duration = Duration::from_secs(1);
/// How often the node is examined meanwhile.
const PROBE: Duration = Duration::from_secs(15);

/// How long a failure lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// It may heal at any time.
    Shortly,
    /// Until a file changes.
    UntilFile,
    /// Until a file or the node changes.
    UntilNode,
}

impl Lasts {
    /// By the error of the attempt.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Cookie(_) => Lasts::UntilFile,
            error if error.is_lasting() => Lasts::UntilNode,
            _ => Lasts::Shortly,
        }
    }
}

/// What an attempt depends on, before it.
pub struct Before {
    files: Vec<Stamp>,
    /// The creation of the node. `None` without need, or if the node does not answer.
    creation: Option<u32>,
    started: Instant,
}

/// The pause between attempts.
pub struct Retry {
    backoff: Duration,
    refusals: u32,
}

/// The pause after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// This time.
    Backoff(Duration),
    /// [`REFUSED`], or until something changes.
    Refused,
}

impl Pause {
    /// The longest time until the next attempt.
    pub fn length(self) -> Duration {
        match self {
            Pause::Backoff(pause) => pause,
            Pause::Refused => REFUSED,
        }
    }
}

impl Retry {
    /// Before the first attempt.
    pub const fn new() -> Self {
        Retry {
            backoff: BACKOFF_MIN,
            refusals: 0,
        }
    }

    /// Called before an attempt.
    pub async fn before(&self, target: &NodeTarget) -> Before {
        let files = stamps(target);
        let creation = match self.refusals {
            0 => None,
            _ => target.creation().await.ok(),
        };
        Before {
            files,
            creation,
            started: Instant::now(),
        }
    }

    /// The pause after a failed attempt.
    pub fn after(&mut self, before: &Before, lasts: Lasts) -> Pause {
        if before.started.elapsed() > STABLE {
            *self = Retry::new();
        }
        self.refusals = match lasts {
            Lasts::Shortly => 0,
            _ => self.refusals + 1,
        };
        if self.refusals >= BELIEVED {
            return Pause::Refused;
        }
        let pause = self.backoff;
        self.backoff = (pause * 2).min(BACKOFF_MAX);
        Pause::Backoff(pause)
    }

    /// Waits for the next attempt. Returns whether something changed that had caused a refusal.
    pub async fn wait(&mut self, target: &NodeTarget, before: &Before, pause: Pause, lasts: Lasts) -> bool {
        match pause {
            Pause::Backoff(pause) => {
                sleep(pause).await;
                false
            }
            Pause::Refused if refused(target, before, lasts).await => {
                *self = Retry::new();
                true
            }
            Pause::Refused => {
                // One more refusal is believed at once.
                self.refusals = BELIEVED - 1;
                false
            }
        }
    }
}

fn stamps(target: &NodeTarget) -> Vec<Stamp> {
    target.files().iter().map(|path| stamp(path)).collect()
}

/// Waits for a change, or for [`REFUSED`]. Returns whether something changed.
async fn refused(target: &NodeTarget, before: &Before, lasts: Lasts) -> bool {
    let until = Instant::now() + REFUSED;
    let mut probe = Instant::now() + PROBE;
    while Instant::now() < until {
        if stamps(target) != before.files {
            return true;
        }
        if lasts == Lasts::UntilNode && Instant::now() >= probe {
            if node_changed(target, before).await {
                return true;
            }
            probe = Instant::now() + PROBE;
        }
        sleep(EXAMINE).await;
    }
    false
}

/// Whether the node has restarted or stopped.
async fn node_changed(target: &NodeTarget, before: &Before) -> bool {
    match target.creation().await {
        Ok(creation) => before.creation.is_some_and(|before| before != creation),
        Err(error) => !error.is_lasting(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_beam_attach::address::{NodeName, PortLookup};
    use dichroic_beam_attach::cookie::CookieSources;
    use dichroic_beam_attach::destination::RelayDestination;
    use std::fs;
    use std::path::PathBuf;

    fn target(name: &str) -> (NodeTarget, PathBuf) {
        let file = std::env::temp_dir().join(format!("dichroic-retry-{}-{name}", std::process::id()));
        let target = NodeTarget {
            node: NodeName::parse("shop@127.0.0.1").unwrap(),
            // A port without a listener.
            lookup: PortLookup::Port(1),
            cookie: CookieSources {
                file: Some(file.clone()),
                release: None,
            },
            tls: None,
            destinations: RelayDestination::Socket("/s".into()).into(),
        };
        (target, file)
    }

    /// The pauses after these failures in sequence, in milliseconds.
    fn pauses(failures: &[Lasts]) -> Vec<u128> {
        let mut retry = Retry::new();
        let before = Before {
            files: Vec::new(),
            creation: None,
            started: Instant::now(),
        };
        let after = |lasts: &Lasts| retry.after(&before, *lasts).length().as_millis();
        failures.iter().map(after).collect()
    }

    #[test]
    fn a_failure_that_heals_is_retried_with_backoff_and_a_refusal_hourly() {
        use Lasts::{Shortly, UntilFile, UntilNode};
        let hour = 3_600_000;
        assert_eq!(
            pauses(&[Shortly; 8]),
            [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
        );
        assert_eq!(pauses(&[UntilFile; 4]), [500, hour, hour, hour]);
        // A single refusal may be that of a node that shuts down.
        assert_eq!(
            pauses(&[UntilNode, Shortly, UntilNode, UntilNode]),
            [500, 1000, 2000, hour]
        );
    }

    #[tokio::test]
    async fn a_changed_file_ends_the_pause() {
        let (target, file) = target("changed");
        let before = Retry::new().before(&target).await;
        fs::write(&file, "SECRET").unwrap();
        assert!(refused(&target, &before, Lasts::UntilFile).await);
        fs::remove_file(file).unwrap();
    }

    #[tokio::test]
    async fn a_node_that_has_stopped_ends_the_pause() {
        let (target, _) = target("stopped");
        let before = Retry::new().before(&target).await;
        assert!(node_changed(&target, &before).await);
    }
}

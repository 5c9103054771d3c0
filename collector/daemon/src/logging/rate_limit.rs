//! A rate limit for the log: each message is written at most [`LINES`] times in [`WINDOW`]; further ones are suppressed and counted.
//!
//! A peer that causes a flood of messages cannot fill a disk; metrics show how often an event happens. The log states when suppression
//! begins, and the number of suppressed messages when the message is next written. Debug messages are not limited.

use super::line::{Format, own_line};
use super::output::Output;
use dichroic_model::text::plural;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Largest number of lines of one message in a window.
const LINES: u32 = 30;
const WINDOW: Duration = Duration::from_secs(10);

/// Standard error with a limit for each callsite. Its table is bounded by the number of callsites.
pub struct RateLimitedWriter {
    format: Format,
    output: Output,
    callsites: Mutex<HashMap<Identifier, Callsite>>,
}

/// Messages of one callsite in the current window.
#[derive(Debug, Clone, Copy)]
struct Callsite {
    window_start: Instant,
    messages: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Write,
    /// Write, after a line with the number of messages suppressed in the previous window.
    WriteAfter(u32),
    /// Suppress the first message over the limit, and write a line about it.
    BeginToSuppress,
    Suppress,
}

impl Callsite {
    fn decide(&mut self, now: Instant) -> Decision {
        if now.duration_since(self.window_start) >= WINDOW {
            let suppressed = self.messages.saturating_sub(LINES);
            *self = Callsite {
                window_start: now,
                messages: 1,
            };
            return match suppressed {
                0 => Decision::Write,
                _ => Decision::WriteAfter(suppressed),
            };
        }
        self.messages = self.messages.saturating_add(1);
        match self.messages {
            ..=LINES => Decision::Write,
            messages if messages == LINES + 1 => Decision::BeginToSuppress,
            _ => Decision::Suppress,
        }
    }
}

/// The destination of one message.
pub enum Line<'a> {
    /// The queue of standard error.
    Written(&'a Output),
    /// Nowhere.
    Suppressed,
}

impl RateLimitedWriter {
    /// A writer whose own lines have this format.
    pub fn new(format: Format, output: Output) -> Self {
        RateLimitedWriter {
            format,
            output,
            callsites: Mutex::new(HashMap::new()),
        }
    }

    fn decide(&self, callsite: Identifier, now: Instant) -> Decision {
        let mut callsites = self.callsites.lock().unwrap_or_else(PoisonError::into_inner);
        let callsite = callsites.entry(callsite).or_insert(Callsite {
            window_start: now,
            messages: 0,
        });
        callsite.decide(now)
    }

    /// Writes a line about the messages of a callsite, with its level and target.
    fn announce(&self, message: &str, meta: &Metadata<'_>) {
        let line = own_line(self.format, *meta.level(), meta.target(), message, &[]);
        self.output.push(line.as_bytes());
    }
}

impl<'a> MakeWriter<'a> for RateLimitedWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line::Written(&self.output)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        if *meta.level() > Level::INFO {
            return self.make_writer();
        }
        match self.decide(meta.callsite(), Instant::now()) {
            Decision::Write => {}
            Decision::WriteAfter(suppressed) => {
                self.announce(
                    &format!("suppressed {} like the next one", plural(suppressed, "message")),
                    meta,
                );
            }
            Decision::BeginToSuppress => {
                let seconds = WINDOW.as_secs();
                let message = format!(
                    "{LINES} messages like this within {seconds} s; further ones are suppressed and counted"
                );
                self.announce(&message, meta);
                return Line::Suppressed;
            }
            Decision::Suppress => return Line::Suppressed,
        }
        self.make_writer()
    }
}

/// The subscriber writes each message at once.
impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Line::Written(output) = self {
            output.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_thirty_times_then_suppressed_and_counted_until_the_next_window() {
        let start = Instant::now();
        let mut callsite = Callsite {
            window_start: start,
            messages: 0,
        };
        for _ in 0..LINES {
            assert_eq!(callsite.decide(start), Decision::Write);
        }
        assert_eq!(callsite.decide(start), Decision::BeginToSuppress);
        for _ in 0..4 {
            assert_eq!(callsite.decide(start + WINDOW / 2), Decision::Suppress);
        }
        assert_eq!(callsite.decide(start + WINDOW), Decision::WriteAfter(5));
        assert_eq!(callsite.decide(start + WINDOW), Decision::Write);
        assert_eq!(callsite.decide(start + 2 * WINDOW), Decision::Write);
    }
}

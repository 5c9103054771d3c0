//! A log that a peer cannot fill: each message of ours is written thirty times in ten seconds at most, then counted instead.
//!
//! Whoever floods the collector is told of by counters, which say how often; the log says that it happens. What is left out is told: when it
//! begins, and how much it was when the message comes again. Messages for debugging are not held back.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How often a message is written in a window.
const LINES: u32 = 30;
const WINDOW: Duration = Duration::from_secs(10);

/// Standard error, calmed. As many entries as the program has messages.
pub struct Calm {
    json: bool,
    sites: Mutex<HashMap<Identifier, Site>>,
}

/// What became of one message lately.
#[derive(Debug, Clone, Copy)]
struct Site {
    since: Instant,
    times: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    /// Of the window before so many were left out.
    WriteAfter(u32),
    /// The first that is left out.
    BeginToLeaveOut,
    LeaveOut,
}

impl Site {
    fn verdict(&mut self, now: Instant) -> Verdict {
        if now.duration_since(self.since) >= WINDOW {
            let left_out = self.times.saturating_sub(LINES);
            *self = Site { since: now, times: 1 };
            return match left_out {
                0 => Verdict::Write,
                _ => Verdict::WriteAfter(left_out),
            };
        }
        self.times = self.times.saturating_add(1);
        match self.times {
            ..=LINES => Verdict::Write,
            times if times == LINES + 1 => Verdict::BeginToLeaveOut,
            _ => Verdict::LeaveOut,
        }
    }
}

/// Where one message goes.
pub enum Line {
    Shown(io::Stderr),
    LeftOut,
}

impl Calm {
    pub fn new(json: bool) -> Self {
        Calm {
            json,
            sites: Mutex::new(HashMap::new()),
        }
    }

    fn verdict(&self, of: Identifier, now: Instant) -> Verdict {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let site = sites.entry(of).or_insert(Site { since: now, times: 0 });
        site.verdict(now)
    }

    fn tell(&self, message: &str, meta: &Metadata<'_>) {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let (level, target) = (meta.level(), meta.target());
        let line = match self.json {
            true => serde_json::json!({ "timestamp": time, "level": level.as_str(), "message": message, "target": target }).to_string(),
            false => format!("{time} {level:>5} {target}: {message}"),
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

impl<'a> MakeWriter<'a> for Calm {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line::Shown(io::stderr())
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        if *meta.level() > Level::INFO {
            return self.make_writer();
        }
        match self.verdict(meta.callsite(), Instant::now()) {
            Verdict::Write => {}
            Verdict::WriteAfter(left_out) => {
                self.tell(&format!("{left_out} more like the next were left out"), meta);
            }
            Verdict::BeginToLeaveOut => {
                let message = format!(
                    "more like the last {LINES} are left out for up to {} s; counters go on",
                    WINDOW.as_secs()
                );
                self.tell(&message, meta);
                return Line::LeftOut;
            }
            Verdict::LeaveOut => return Line::LeftOut,
        }
        self.make_writer()
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Shown(stderr) => stderr.write(bytes),
            Line::LeftOut => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Shown(stderr) => stderr.flush(),
            Line::LeftOut => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_thirty_times_then_counted_and_told_when_it_comes_again() {
        let start = Instant::now();
        let mut site = Site {
            since: start,
            times: 0,
        };
        for _ in 0..LINES {
            assert_eq!(site.verdict(start), Verdict::Write);
        }
        assert_eq!(site.verdict(start), Verdict::BeginToLeaveOut);
        for _ in 0..4 {
            assert_eq!(site.verdict(start + WINDOW / 2), Verdict::LeaveOut);
        }
        assert_eq!(site.verdict(start + WINDOW), Verdict::WriteAfter(5));
        assert_eq!(site.verdict(start + WINDOW), Verdict::Write);
        assert_eq!(site.verdict(start + 2 * WINDOW), Verdict::Write);
    }
}

//! The short way: a page that shows the series it showed last time.

use std::hash::Hasher;

use dichroic_model::Fingerprinter;

use super::Format;
use super::points::{Memory, NO_TIME, Point};
use crate::parse::{FamilyKind, Item, Quick, openmetrics, text};

/// Seed of the hash over comment lines; it only guards against change, not against intent.
const COMMENT_SEED: u64 = 0x0064_6963_6872_6f69;

/// Mixes the line at sample position `at` into the hash over comments. In OpenMetrics the position counts: metadata that
/// moves may break a rule. In text it does not.
pub(super) fn mix(comments: u64, line: &[u8], at: usize, openmetrics: bool) -> u64 {
    let mut hasher =
        std::hash::BuildHasher::build_hasher(&foldhash::fast::FixedState::with_seed(COMMENT_SEED));
    hasher.write(line);
    if openmetrics {
        hasher.write_usize(at);
    }
    comments.wrapping_add(hasher.finish())
}

/// Notes the values of `body` in memory if it shows exactly the series that memory holds. `false`: read it with the parser;
/// memory's values are then meaningless.
pub(super) fn replay(memory: &mut Memory, fingerprints: &Fingerprinter, body: &[u8], format: Format) -> bool {
    if !memory.replayable || memory.openmetrics != (format != Format::Text) {
        return false;
    }
    memory.turn = memory.turn.wrapping_add(1);
    let mut replay = Replay {
        memory,
        fingerprints,
        next: 0,
        met: 0,
        repeated: false,
        comments: 0,
    };
    let complete = match format {
        Format::Text => replay.text(text::Parser::new(body)),
        Format::OpenMetrics { .. } => replay.openmetrics(openmetrics::Parser::new(body)),
    };
    let same = !replay.repeated
        && replay.met == replay.memory.lines.len()
        && replay.comments == replay.memory.comments;
    complete && same && (format == Format::Text || memory.points.iter().all(|point| allowed(memory, point)))
}

struct Replay<'m> {
    memory: &'m mut Memory,
    fingerprints: &'m Fingerprinter,
    /// The line that is expected.
    next: usize,
    met: usize,
    /// A series came twice: it must not make up for one that is missing.
    repeated: bool,
    comments: u64,
}

impl Replay<'_> {
    /// Text may come in another order, and with times.
    fn text(&mut self, mut parser: text::Parser<'_>) -> bool {
        loop {
            if let Some(line) = parser.quick()
                && let Some(value) = self.known(&line, false)
            {
                self.note(value, NO_TIME);
                parser.accept(&line);
                continue;
            }
            if let Some(comment) = parser.skip_comment() {
                self.comments = mix(self.comments, comment, 0, false);
                continue;
            }
            match parser.next_item() {
                Ok(None) => return true,
                Ok(Some(Item::Sample(sample))) if self.place(sample.series.raw) => {
                    self.note(sample.value, sample.timestamp_ns.unwrap_or(NO_TIME));
                }
                _ => return false,
            }
        }
    }

    /// OpenMetrics must come in the very order that the strict parser found good.
    fn openmetrics(&mut self, mut parser: openmetrics::Parser<'_>) -> bool {
        loop {
            if let Some(line) = parser.quick()
                && let Some(value) = self.known(&line, true)
            {
                self.note(value, NO_TIME);
                parser.accept(&line);
                continue;
            }
            match parser.skip_comment() {
                Some(comment) => self.comments = mix(self.comments, comment, self.next, true),
                None => return parser.at_end(),
            }
        }
    }

    /// The value of a line whose series is expected here, or (unless `in_order`) anywhere.
    #[inline]
    fn known(&mut self, line: &Quick<'_>, in_order: bool) -> Option<f64> {
        let fp = self.fingerprints.of(line.series);
        match self.memory.lines.get(self.next) {
            Some(expected) if expected.fp == fp => {}
            _ if in_order => return None,
            _ => self.next = self.memory.find(fp)? as usize,
        }
        line.value()
    }

    fn place(&mut self, raw: &[u8]) -> bool {
        let at = self.memory.find(self.fingerprints.of(raw));
        self.next = at.map_or(self.next, |at| at as usize);
        at.is_some()
    }

    #[inline]
    fn note(&mut self, value: f64, time: i64) {
        let turn = self.memory.turn;
        let Some(line) = self.memory.lines.get_mut(self.next) else {
            return;
        };
        self.repeated |= line.seen == turn;
        self.met += 1;
        (line.value, line.time, line.seen) = (value, time, turn);
        self.next += 1;
    }
}

/// The rules of OpenMetrics on values, which can break while names and labels stay the same.
fn allowed(memory: &Memory, point: &Point) -> bool {
    let count_like = |line: u32| memory.value(line).is_none_or(|value| value >= 0.0);
    let main = memory.value(point.main);
    let parts = memory.parts_of(point);
    match point.kind {
        FamilyKind::Unknown | FamilyKind::Gauge => true,
        FamilyKind::Counter => count_like(point.main),
        FamilyKind::Info => main == Some(1.0),
        FamilyKind::StateSet => main == Some(0.0) || main == Some(1.0),
        FamilyKind::Summary => {
            let negative = |&(_, line): &(f64, u32)| memory.value(line).is_some_and(|value| value < 0.0);
            count_like(point.main) && count_like(point.sum) && !parts.iter().any(negative)
        }
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => {
            let counts = || parts.iter().filter_map(|&(_, line)| memory.value(line));
            let rising = counts().is_sorted() && counts().all(|count| count >= 0.0);
            let total = counts().next_back();
            let negative_bounds = parts.first().is_some_and(|(bound, _)| *bound < 0.0);
            let any_sum = point.kind == FamilyKind::GaugeHistogram && negative_bounds;
            let sum = memory.value(point.sum);
            rising
                && (main.is_none() || main == total)
                && sum.is_none_or(|sum| !sum.is_nan() && (any_sum || sum >= 0.0))
        }
    }
}

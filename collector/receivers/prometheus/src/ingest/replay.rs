//! The fast path: a page with the same series as the last one.

use std::hash::Hasher;

use dichroic_model::Fingerprinter;

use super::exposition::Format;
use super::parser::PageParser;
use super::points::{Memory, NO_TIME, Point};
use crate::parse::{FamilyKind, Item, Quick, openmetrics, text};

/// Seed of the hash over comment lines; it detects changes, not attacks.
const COMMENT_SEED: u64 = 0x0064_6963_6872_6f69;

/// Mixes the line before sample `at` into the hash over comments. The position matters in OpenMetrics, where moved metadata may
/// violate a rule, but not in text.
pub(super) fn mix(comments: u64, line: &[u8], at: usize, openmetrics: bool) -> u64 {
    let mut hasher =
        std::hash::BuildHasher::build_hasher(&foldhash::fast::FixedState::with_seed(COMMENT_SEED));
    hasher.write(line);
    if openmetrics {
        hasher.write_usize(at);
    }
    comments.wrapping_add(hasher.finish())
}

/// A page that is being replayed: its values are noted in memory.
pub(super) struct Replay<'m, 'a> {
    memory: &'m mut Memory,
    fingerprints: &'m Fingerprinter,
    parser: PageParser<'a>,
    /// The line that is expected.
    next: usize,
    seen: usize,
    /// A series is on the page twice; it must not compensate for a missing one.
    repeated: bool,
    comments: u64,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The page ended; only values changed, and all are noted.
    Same,
    /// The page differs and must be parsed. The values in memory are undefined.
    Other,
}

impl<'m, 'a> Replay<'m, 'a> {
    /// `None` if this page must be parsed.
    pub(super) fn new(
        memory: &'m mut Memory,
        fingerprints: &'m Fingerprinter,
        body: &'a [u8],
        format: Format,
    ) -> Option<Self> {
        if !memory.replayable || memory.openmetrics != (format != Format::Text) {
            return None;
        }
        memory.seen.clear();
        memory.seen.resize(memory.lines.len().div_ceil(64), 0);
        let parser = PageParser::new(body, format);
        Some(Self {
            memory,
            fingerprints,
            parser,
            next: 0,
            seen: 0,
            repeated: false,
            comments: 0,
        })
    }

    /// Reads at most `lines` lines.
    pub(super) fn step(&mut self, lines: usize) -> Step {
        // The parser is moved out, so that the loops below are compiled for one grammar each.
        let (complete, parser) = match std::mem::take(&mut self.parser) {
            PageParser::Text(mut parser) => (self.text(&mut parser, lines), PageParser::Text(parser)),
            PageParser::OpenMetrics(mut parser) => (
                self.openmetrics(&mut parser, lines),
                PageParser::OpenMetrics(parser),
            ),
        };
        self.parser = parser;
        match complete {
            None => Step::More,
            Some(true) if self.is_same() => Step::Same,
            Some(_) => Step::Other,
        }
    }

    fn is_same(&self) -> bool {
        let memory = &*self.memory;
        !self.repeated
            && self.seen == memory.lines.len()
            && self.comments == memory.comments
            && (!memory.openmetrics || odd(memory).eq(memory.odd.iter().copied()))
    }

    /// Text may have another order, and timestamps. `Some(false)` if something is new.
    fn text(&mut self, parser: &mut text::Parser<'_>, lines: usize) -> Option<bool> {
        for _ in 0..lines {
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
                Ok(None) => return Some(true),
                Ok(Some(Item::Sample(sample))) if self.seek(sample.series.raw) => {
                    self.note(sample.value, sample.timestamp_ns.unwrap_or(NO_TIME));
                }
                _ => return Some(false),
            }
        }
        None
    }

    /// OpenMetrics must have exactly the order that the strict parser accepted.
    fn openmetrics(&mut self, parser: &mut openmetrics::Parser<'_>, lines: usize) -> Option<bool> {
        for _ in 0..lines {
            if let Some(line) = parser.quick()
                && let Some(value) = self.known(&line, true)
            {
                self.note(value, NO_TIME);
                parser.accept(&line);
                continue;
            }
            match parser.skip_comment() {
                Some(comment) => self.comments = mix(self.comments, comment, self.next, true),
                None => return Some(parser.at_end()),
            }
        }
        None
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

    fn seek(&mut self, raw: &[u8]) -> bool {
        let at = self.memory.find(self.fingerprints.of(raw));
        self.next = at.map_or(self.next, |at| at as usize);
        at.is_some()
    }

    #[inline]
    fn note(&mut self, value: f64, time: i64) {
        let (at, memory) = (self.next, &mut *self.memory);
        let (Some(line), Some(seen)) = (memory.lines.get_mut(at), memory.seen.get_mut(at / 64)) else {
            return;
        };
        line.value = value;
        self.repeated |= *seen & (1 << (at % 64)) != 0;
        *seen |= 1 << (at % 64);
        if time != NO_TIME || !memory.times.is_empty() {
            memory.set_time(at as u32, time);
        }
        self.seen += 1;
        self.next += 1;
    }
}

/// Points with a value that OpenMetrics forbids.
pub(super) fn odd(memory: &Memory) -> impl Iterator<Item = u32> + '_ {
    let points = (0..).zip(&memory.points);
    points
        .filter(|(_, point)| !allowed(memory, point))
        .map(|(at, _)| at)
}

/// The rules of OpenMetrics on values, which can be violated while names and labels stay the same.
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
            let negative = |&line: &u32| memory.value(line).is_some_and(|value| value < 0.0);
            count_like(point.main) && count_like(point.sum) && !parts.iter().any(negative)
        }
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => {
            let counts = || parts.iter().filter_map(|&line| memory.value(line));
            let rising = counts().is_sorted() && counts().all(|count| count >= 0.0);
            let total = counts().next_back();
            let negative_bounds = memory.bounds_of(point).first().is_some_and(|bound| *bound < 0.0);
            let any_sum = point.kind == FamilyKind::GaugeHistogram && negative_bounds;
            let sum = memory.value(point.sum);
            rising
                && (main.is_none() || main == total)
                && sum.is_none_or(|sum| !sum.is_nan() && (any_sum || sum >= 0.0))
        }
    }
}

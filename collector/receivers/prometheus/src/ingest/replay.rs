//! The short way: a page that shows the series it showed last time.

use std::hash::Hasher;

use dichroic_model::Fingerprinter;

use super::exposition::Format;
use super::parser::PageParser;
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

/// A page that is being replayed: steps note its values in memory.
pub(super) struct Replay<'m, 'a> {
    memory: &'m mut Memory,
    fingerprints: &'m Fingerprinter,
    parser: PageParser<'a>,
    /// The line that is expected.
    next: usize,
    met: usize,
    /// A series came twice: it must not make up for one that is missing.
    repeated: bool,
    comments: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// All values are noted, and nothing but values changed.
    Same,
    /// Read it with the parser; memory's values are meaningless.
    Other,
}

impl<'m, 'a> Replay<'m, 'a> {
    /// `None` if memory cannot stand for a parse of this page.
    pub(super) fn new(
        memory: &'m mut Memory,
        fingerprints: &'m Fingerprinter,
        body: &'a [u8],
        format: Format,
    ) -> Option<Self> {
        if !memory.replayable || memory.openmetrics != (format != Format::Text) {
            return None;
        }
        memory.met.clear();
        memory.met.resize(memory.lines.len().div_ceil(64), 0);
        let parser = PageParser::new(body, format);
        Some(Self {
            memory,
            fingerprints,
            parser,
            next: 0,
            met: 0,
            repeated: false,
            comments: 0,
        })
    }

    /// Reads at most `lines` lines.
    pub(super) fn step(&mut self, lines: usize) -> Step {
        // The parser moves out, so that the loops below know which one it is.
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
            && self.met == memory.lines.len()
            && self.comments == memory.comments
            && (!memory.openmetrics || memory.points.iter().all(|point| allowed(memory, point)))
    }

    /// Text may come in another order, and with times. `Some(false)` if something is new.
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
                Ok(Some(Item::Sample(sample))) if self.place(sample.series.raw) => {
                    self.note(sample.value, sample.timestamp_ns.unwrap_or(NO_TIME));
                }
                _ => return Some(false),
            }
        }
        None
    }

    /// OpenMetrics must come in the very order that the strict parser found good.
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

    fn place(&mut self, raw: &[u8]) -> bool {
        let at = self.memory.find(self.fingerprints.of(raw));
        self.next = at.map_or(self.next, |at| at as usize);
        at.is_some()
    }

    #[inline]
    fn note(&mut self, value: f64, time: i64) {
        let (at, memory) = (self.next, &mut *self.memory);
        let (Some(line), Some(met)) = (memory.lines.get_mut(at), memory.met.get_mut(at / 64)) else {
            return;
        };
        line.value = value;
        self.repeated |= *met & (1 << (at % 64)) != 0;
        *met |= 1 << (at % 64);
        if time != NO_TIME || !memory.times.is_empty() {
            memory.set_time(at as u32, time);
        }
        self.met += 1;
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

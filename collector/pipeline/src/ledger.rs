//! The ledger: the fate of every point, event and log, by hop, source and reason.
//!
//! Every term is counted where it occurs and none is computed from the others, so a bug shows as an account that does not balance. The
//! hops and their equations:
//!
//! | hop | equation |
//! |---|---|
//! | ingest, per source and signal | `received = applied + hidden{reason} + dropped{reason} + staged` |
//! | each exporter and subscriber | `offered = sent + dropped{reason} + queued` |
//! | requests of senders, see [`requests`](crate::requests) | `received = accepted + partial + refused{reason} + in_flight` |
//! | relay, per node | `handled = aggregated + streamed + dropped{reason}` (as last reported by the relay) |
//!
//! Metrics are counted in data points (samples, for scraped pages), events and logs in rows.

use crate::reasons::reasons;
use crate::requests::Requests;
use dichroic_model::{SourceId, UnixNanos};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kind of item that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Data points.
    Metrics,
    /// Raw events.
    Events,
    /// Log records.
    Logs,
    /// Spans; not supported yet.
    Traces,
}

impl Signal {
    /// The name in the ledger's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Events => "events",
            Signal::Logs => "logs",
            Signal::Traces => "traces",
        }
    }
}

reasons! {
    /// Why something was dropped. Each has its own counter.
    DropReason:
    /// The limit of series is reached.
    SeriesLimit = "series_limit",
    /// The limit of series of one source is reached.
    SeriesPerSource = "series_per_source",
    /// The limit of series of one metric is reached.
    SeriesPerMetric = "series_per_metric",
    /// The limit of accounted bytes is reached.
    MemoryLimit = "memory_limit",
    /// Too many sources.
    SourceLimit = "source_limit",
    /// Too many labels, or a name that is too long.
    LabelLimit = "label_limit",
    /// More buckets than allowed, or counts that do not fit their bounds.
    Buckets = "buckets",
    /// Too many event schemas.
    SchemaLimit = "schema_limit",
    /// Violates the format: wrong type, missing value, invalid number.
    Malformed = "malformed",
    /// A kind that is not supported yet.
    Unsupported = "unsupported",
    /// The same series twice in one page or request.
    Duplicate = "duplicate",
    /// Older than the previous point, or a total that decreased.
    Backwards = "backwards",
    /// A delta that starts before the end of the previous one.
    Overlap = "overlap",
    /// The point is flagged as having no value.
    NoRecordedValue = "no_recorded_value",
    /// The series was removed between lookup and write.
    SeriesGone = "series_gone",
    /// A page or request over its size limit.
    TooLarge = "too_large",
    /// The schema was withdrawn while its rows were in flight.
    Withdrawn = "withdrawn",
    /// More processes write one series than can be distinguished.
    WriterLimit = "writer_limit",
    /// In flight when the relay's connection broke.
    RelayBroke = "relay_broke",
    /// There was no subscriber.
    Unwanted = "unwanted",
    /// The receiver of the channel was too slow.
    Slow = "slow",
    /// Still queued at the shutdown deadline.
    Shutdown = "shutdown",
}

reasons! {
    /// Why a point is on no page, although its series holds it. Streams have it.
    HiddenReason:
    /// Two gauges or summaries of one source differ only in the types of their attributes: their labels are equal as text.
    LabelText = "label_text",
    /// Two metrics of one source have one name and equal labels on the page.
    MetricName = "metric_name",
    /// Two sources, such as two targets with `honor_labels`, have a series of one name and equal labels.
    Source = "source",
    /// A process with the same identity started after the last point of this one.
    Superseded = "superseded",
}

/// Where a point that was not dropped ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Into a series that pages show.
    Applied,
    /// Into a series that no page shows.
    Hidden(HiddenReason),
}

/// The account of one source and signal at the ingest hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAccount {
    /// Start of the account.
    pub since: UnixNanos,
    /// Received.
    pub received: u64,
    /// Reached a cell that pages show, or a stream.
    pub applied: u64,
    /// Pending: neither applied nor dropped yet.
    pub staged: u64,
    hidden: Vec<u64>,
    dropped: Vec<u64>,
    /// The largest values of `applied` and of each of `hidden`.
    peaks: Vec<u64>,
    /// Points that became hidden or visible before they were counted, from one term to another.
    unsettled: Vec<(Moved, u64)>,
}

/// Why a point was hidden, and why it is.
type Moved = (Option<HiddenReason>, Option<HiddenReason>);

impl SourceAccount {
    fn new(since: UnixNanos) -> Self {
        SourceAccount {
            since,
            received: 0,
            applied: 0,
            staged: 0,
            hidden: vec![0; HiddenReason::ALL.len()],
            dropped: vec![0; DropReason::ALL.len()],
            peaks: vec![0; 1 + HiddenReason::ALL.len()],
            unsettled: Vec::new(),
        }
    }

    /// Reached a series that no page shows, for one reason.
    pub fn hidden(&self, reason: HiddenReason) -> u64 {
        self.hidden[reason as usize]
    }

    /// The reasons for hidden points, each with their number.
    pub fn hides(&self) -> impl Iterator<Item = (HiddenReason, u64)> + '_ {
        HiddenReason::ALL
            .iter()
            .map(|r| (*r, self.hidden(*r)))
            .filter(|(_, n)| *n > 0)
    }

    /// The largest value that `applied` had: a counter that does not fall when points become hidden.
    pub fn applied_peak(&self) -> u64 {
        self.peaks[0]
    }

    /// As [`SourceAccount::hides`], with the largest value that each had.
    pub fn hidden_peaks(&self) -> impl Iterator<Item = (HiddenReason, u64)> + '_ {
        HiddenReason::ALL
            .iter()
            .map(|reason| (*reason, self.peaks[1 + *reason as usize]))
            .filter(|(_, n)| *n > 0)
    }

    fn term(&mut self, hidden: Option<HiddenReason>) -> &mut u64 {
        match hidden {
            Some(reason) => &mut self.hidden[reason as usize],
            None => &mut self.applied,
        }
    }

    /// Moves points between the terms as far as they are counted. A receiver may count its points later than it writes them.
    fn settle(&mut self) {
        if !self.unsettled.is_empty() {
            let mut unsettled = std::mem::take(&mut self.unsettled);
            for ((before, after), points) in &mut unsettled {
                let counted = (*points).min(*self.term(*before));
                *points -= counted;
                *self.term(*before) -= counted;
                add(self.term(*after), counted);
            }
            unsettled.retain(|(_, points)| *points > 0);
            self.unsettled = unsettled;
        }
        self.raise_peaks();
    }

    fn raise_peaks(&mut self) {
        let terms = std::iter::once(&self.applied).chain(&self.hidden);
        for (peak, term) in self.peaks.iter_mut().zip(terms) {
            *peak = (*peak).max(*term);
        }
    }

    /// Dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Number of dropped items by reason, without zeros.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|r| (*r, self.dropped(*r)))
            .filter(|(_, n)| *n > 0)
    }

    /// Whether received = applied + hidden + dropped + staged.
    pub fn balances(&self) -> bool {
        let parts = [self.applied, self.staged]
            .into_iter()
            .chain(self.hidden.iter().copied())
            .chain(self.dropped.iter().copied());
        self.received == parts.fold(0, u64::saturating_add)
    }
}

/// The account of one exporter or subscriber. Shared between threads: each counter has one writer and takes only additions and
/// subtractions, so relaxed ordering suffices. A reader may see the terms at slightly different times; at rest they balance.
#[derive(Debug, Default)]
pub struct Hop {
    /// Passed to it.
    pub offered: AtomicU64,
    /// Sent by it.
    pub sent: AtomicU64,
    /// Dropped by it.
    pub dropped: AtomicU64,
    /// Queued in it.
    pub queued: AtomicU64,
}

impl Hop {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// (offered, sent, dropped, queued)
    pub fn read(&self) -> (u64, u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            read(&self.offered),
            read(&self.sent),
            read(&self.dropped),
            read(&self.queued),
        )
    }
}

/// A term of the account that a relay reports: a name, with labels in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayTerm {
    /// Also the end of the metric's name, `dichroic_relay_{name}_total`.
    pub name: &'static str,
    /// Such as `("event", "phoenix.endpoint.stop")`.
    pub labels: Vec<(&'static str, String)>,
}

impl RelayTerm {
    /// A term with labels.
    pub fn new<const N: usize>(name: &'static str, labels: [(&'static str, String); N]) -> Self {
        RelayTerm {
            name,
            labels: labels.into(),
        }
    }
}

impl From<&'static str> for RelayTerm {
    fn from(name: &'static str) -> Self {
        RelayTerm::new(name, [])
    }
}

/// The key of the ledger's JSON: `name{label="value",…}`.
impl fmt::Display for RelayTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (at, (label, value)) in self.labels.iter().enumerate() {
            let separator = if at == 0 { '{' } else { ',' };
            write!(f, "{separator}{label}={value:?}")?;
        }
        f.write_str(if self.labels.is_empty() { "" } else { "}" })
    }
}

/// All accounts.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// When this process started to count.
    pub epoch: UnixNanos,
    accounts: BTreeMap<(SourceId, Signal), SourceAccount>,
    /// Names of sources, also of removed ones.
    names: BTreeMap<SourceId, (&'static str, String)>,
    relays: BTreeMap<SourceId, BTreeMap<RelayTerm, u64>>,
    /// Removed sources that still have an account, oldest first.
    retired: VecDeque<SourceId>,
    hops: BTreeMap<String, Arc<Hop>>,
    /// Requests that senders push.
    pub requests: Requests,
    /// By source and reason.
    violations: BTreeMap<(SourceId, &'static str), u64>,
}

/// Largest number of removed sources with an account.
const RETIRED: usize = 1_024;

/// Largest number of terms reported by one relay.
const RELAY_TERMS: usize = 256;

impl Ledger {
    /// The account with the totals of sources removed long ago.
    pub const REMOVED_SOURCES: SourceId = SourceId(u32::MAX);

    /// An empty ledger that starts at `epoch`.
    pub fn new(epoch: UnixNanos) -> Self {
        Ledger {
            epoch,
            ..Ledger::default()
        }
    }

    pub(crate) fn name(&mut self, source: SourceId, protocol: &'static str, name: &str) {
        self.names.insert(source, (protocol, name.to_owned()));
    }

    /// Retains the account of a removed source. Beyond a limit the oldest are added to one account ([`Ledger::REMOVED_SOURCES`]), so that the
    /// ledger is bounded and still balances.
    pub(crate) fn retire(&mut self, source: SourceId) {
        self.retired.push_back(source);
        while self.retired.len() > RETIRED
            && let Some(oldest) = self.retired.pop_front()
        {
            self.fold(oldest);
        }
    }

    /// Counts violations of its format by a source that were accepted all the same. `reason` is one of a fixed set.
    pub fn violated(&mut self, source: SourceId, reason: &'static str, count: u64) {
        add(self.violations.entry((source, reason)).or_default(), count);
    }

    /// The violations of each source, by reason.
    pub fn violations(&self) -> impl Iterator<Item = (SourceId, &'static str, u64)> + '_ {
        let all = self.violations.iter();
        all.map(|((source, reason), count)| (*source, *reason, *count))
    }

    fn fold(&mut self, source: SourceId) {
        self.names.remove(&source);
        self.relays.remove(&source);
        let violations = self.violations.extract_if(.., |(of, _), _| *of == source);
        for ((_, reason), count) in violations.collect::<Vec<_>>() {
            self.name(Self::REMOVED_SOURCES, "internal", "removed sources");
            self.violated(Self::REMOVED_SOURCES, reason, count);
        }
        for signal in [Signal::Metrics, Signal::Events, Signal::Logs, Signal::Traces] {
            let Some(old) = self.accounts.remove(&(source, signal)) else {
                continue;
            };
            self.name(Self::REMOVED_SOURCES, "internal", "removed sources");
            let sum = self.account_mut(Self::REMOVED_SOURCES, signal);
            add(&mut sum.received, old.received);
            add(&mut sum.applied, old.applied);
            add(&mut sum.staged, old.staged);
            for (sums, olds) in [(&mut sum.hidden, old.hidden), (&mut sum.dropped, old.dropped)] {
                sums.iter_mut().zip(olds).for_each(|(a, b)| add(a, b));
            }
            sum.raise_peaks();
        }
    }

    /// (protocol, name) of a source, also of a removed one.
    pub fn source_name(&self, source: SourceId) -> Option<(&'static str, &str)> {
        self.names
            .get(&source)
            .map(|(protocol, name)| (*protocol, name.as_str()))
    }

    fn account_mut(&mut self, source: SourceId, signal: Signal) -> &mut SourceAccount {
        let epoch = self.epoch;
        self.accounts
            .entry((source, signal))
            .or_insert_with(|| SourceAccount::new(epoch))
    }

    /// `n` were received.
    pub fn received(&mut self, source: SourceId, signal: Signal, n: u64) {
        add(&mut self.account_mut(source, signal).received, n);
    }

    /// `n` reached a cell that pages show, or a stream.
    pub fn applied(&mut self, source: SourceId, signal: Signal, n: u64) {
        let account = self.account_mut(source, signal);
        add(&mut account.applied, n);
        account.settle();
    }

    /// Points of a series that pages do not show any more, or show again, with the reason why they were and are hidden.
    pub(crate) fn moved(
        &mut self,
        source: SourceId,
        before: Option<HiddenReason>,
        after: Option<HiddenReason>,
        points: u64,
    ) {
        let account = self.account_mut(source, Signal::Metrics);
        count_reason(&mut account.unsettled, (before, after), points);
        account.settle();
    }

    /// `n` reached a series that no page shows.
    pub fn hidden(&mut self, source: SourceId, signal: Signal, reason: HiddenReason, n: u64) {
        let account = self.account_mut(source, signal);
        add(&mut account.hidden[reason as usize], n);
        account.settle();
    }

    /// `n` were dropped.
    pub fn dropped(&mut self, source: SourceId, signal: Signal, reason: DropReason, n: u64) {
        add(&mut self.account_mut(source, signal).dropped[reason as usize], n);
    }

    /// Sets a term that a relay reports. Terms beyond the limit are ignored.
    pub fn relay(&mut self, source: SourceId, term: impl Into<RelayTerm>, value: u64) {
        let term = term.into();
        let terms = self.relays.entry(source).or_default();
        if terms.len() < RELAY_TERMS || terms.contains_key(&term) {
            terms.insert(term, value);
        }
    }

    /// The account of an exporter or subscriber, created on first use.
    pub fn hop(&mut self, name: &str) -> Arc<Hop> {
        self.hops.entry(name.to_owned()).or_default().clone()
    }

    /// One account.
    pub fn account(&self, source: SourceId, signal: Signal) -> Option<&SourceAccount> {
        self.accounts.get(&(source, signal))
    }

    /// All accounts of the ingest hop.
    pub fn accounts(&self) -> impl Iterator<Item = (SourceId, Signal, &SourceAccount)> {
        self.accounts
            .iter()
            .map(|((source, signal), account)| (*source, *signal, account))
    }

    /// The last reported accounts of the relays.
    pub fn relays(&self) -> impl Iterator<Item = (SourceId, &BTreeMap<RelayTerm, u64>)> {
        self.relays.iter().map(|(source, terms)| (*source, terms))
    }

    /// Accounts of exporters and subscribers.
    pub fn hops(&self) -> impl Iterator<Item = (&str, &Hop)> {
        self.hops.iter().map(|(name, hop)| (name.as_str(), &**hop))
    }

    /// Whether every account of the ingest hop and of requests balances.
    pub fn balances(&self) -> bool {
        self.accounts.values().all(SourceAccount::balances) && self.requests.balances()
    }
}

/// Adds to the count of a reason, in a list with one count for each.
pub fn count_reason<R: PartialEq>(counts: &mut Vec<(R, u64)>, reason: R, n: u64) {
    match counts.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += n,
        None => counts.push((reason, n)),
    }
}

/// Saturates: a peer may report any number as lost.
fn add(term: &mut u64, n: u64) {
    *term = term.saturating_add(n);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_balances_when_every_term_is_counted() {
        let mut ledger = Ledger::new(5);
        let source = SourceId(1);
        ledger.received(source, Signal::Metrics, 10);
        assert!(!ledger.balances());
        ledger.applied(source, Signal::Metrics, 7);
        ledger.dropped(source, Signal::Metrics, DropReason::SeriesLimit, 3);
        assert!(ledger.balances());
        let account = ledger.account(source, Signal::Metrics).unwrap();
        assert_eq!(account.since, 5);
        assert_eq!(
            account.drops().collect::<Vec<_>>(),
            [(DropReason::SeriesLimit, 3)]
        );
    }

    #[test]
    fn a_relay_term_is_shown_with_its_labels() {
        let check = |term: RelayTerm, shown: &str| assert_eq!(term.to_string(), shown);
        check("reattached".into(), "reattached");
        let event = ("event", "a \"b\".stop".to_owned());
        check(
            RelayTerm::new("rows_dropped", [event, ("reason", "overload".to_owned())]),
            r#"rows_dropped{event="a \"b\".stop",reason="overload"}"#,
        );
    }

    #[test]
    fn counters_saturate() {
        let mut ledger = Ledger::new(0);
        for reason in [DropReason::Slow, DropReason::Unwanted] {
            for _ in 0..2 {
                ledger.received(SourceId(1), Signal::Events, u64::MAX - 1);
                ledger.dropped(SourceId(1), Signal::Events, reason, u64::MAX - 1);
            }
        }
        assert!(ledger.balances());
        assert_eq!(
            ledger.account(SourceId(1), Signal::Events).map(|a| a.received),
            Some(u64::MAX)
        );
    }

    #[test]
    fn accounts_of_many_removed_sources_are_added_and_lose_nothing() {
        let mut ledger = Ledger::new(0);
        let sources = u32::try_from(RETIRED).unwrap() + 100;
        for id in 0..sources {
            ledger.name(SourceId(id), "otlp", "x");
            ledger.received(SourceId(id), Signal::Metrics, 2);
            ledger.applied(SourceId(id), Signal::Metrics, 1);
            ledger.dropped(SourceId(id), Signal::Metrics, DropReason::Malformed, 1);
            ledger.retire(SourceId(id));
        }
        assert_eq!(ledger.accounts().count(), RETIRED + 1);
        assert_eq!(
            ledger.accounts().map(|(.., a)| a.received).sum::<u64>(),
            2 * u64::from(sources)
        );
        assert!(ledger.balances());
        assert_eq!(ledger.source_name(SourceId(0)), None);
    }
}

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

mod account;
mod hop;
mod relay_term;
mod terms;

use crate::requests::Requests;
use account::add;
use dichroic_model::{SourceId, UnixNanos};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use account::SourceAccount;
pub use hop::Hop;
pub use relay_term::RelayTerm;
pub use terms::{DropReason, HiddenReason, Signal, Written};

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

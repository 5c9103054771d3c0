//! Applies the frames of one relay to the store: one connection without its socket.
//!
//! The session passes whole frames in order and gets bytes to send. Nothing here waits. An error ends the connection with GOODBYE;
//! rows applied before it remain, and the ledger counts the rest of the frame as dropped.

mod account_rows;
mod define;

use crate::account::{Account, ReportedTerm, Term};
use crate::config::Config;
use crate::events::{EventsError, IN_FLIGHT, Published, RelayStreams};
pub use crate::identity::source_spec;
use crate::plan::{Blueprint, Measure};
use crate::series::{Applied, InvalidRow, RetainedSeries, SeriesTable};
use crate::status::RelayStatus;
use crate::stream_spec::StreamSpec;
use dichroic_model::text::plural;
use dichroic_model::{EventSchema, Source, TimeRange, UnixNanos};
use dichroic_pipeline::ledger::count_reason;
use dichroic_pipeline::{Core, DropReason, HiddenReason, Interest, Signal};
use dichroic_wire::limits::{PLAN_ENTRIES, SCHEMAS_PER_RELAY, SERIES_MAX};
use dichroic_wire::plan::{Plan, PlanLimits, PlanReply};
use dichroic_wire::{
    FrameType, Goodbye, GoodbyeCode, Histograms, NumberRow, Numbers, Ping, Pong, RawFrame, RelayHello, frame,
    hello,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Highest accepted account value: a century at a million rows per second. Higher values would corrupt the ledger.
const ACCOUNT_MOST: u64 = 1 << 52;

/// Rows whose cells are prefetched together: 17.5 ns a row, against 22.5 one by one and 19 with 16 (random order, 100,000 series).
const GROUP: usize = 8;

/// Flushes without totals after which a node is assumed to have none.
const SETTLE_FLUSHES: u64 = 3;

/// Plans without a reply that are kept. A relay answers each.
const UNANSWERED_PLANS: usize = 16;

/// A plan that the relay has not answered.
#[derive(Debug)]
struct SentPlan {
    generation: i64,
    /// Generation of the interest that it has.
    interest: u64,
    at: UnixNanos,
    /// The schemas of its streams.
    streams: HashSet<u32>,
}

/// A protocol violation: the content of the GOODBYE that ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its code.
    pub code: GoodbyeCode,
    /// Its message.
    pub message: String,
}

/// What the session does after a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameOutcome {
    /// Continue with the next frame.
    Continue,
    /// The relay sent GOODBYE: no frame follows.
    Goodbye(Goodbye),
}

/// State of a node passed from one connection to the next.
#[derive(Debug, Default)]
pub struct RetainedState {
    pub(crate) series: RetainedSeries,
    account: Option<Account>,
}

/// One relay's connection.
#[derive(Debug)]
pub struct Relay {
    source: Arc<Source>,
    hello: RelayHello,
    blueprint: Blueprint,
    /// App metrics, by key.
    app_metrics: HashMap<u64, Rc<Measure>>,
    series: SeriesTable,
    streams: RelayStreams,
    account: Account,
    /// Terms of the account, by id.
    terms: HashMap<u32, ReportedTerm>,
    /// Sums of terms that several ids share.
    folded: HashMap<Term, u64>,
    status: RelayStatus,
    generation: i64,
    /// The plans without a reply, oldest first.
    unanswered: VecDeque<SentPlan>,
    /// When its last frame arrived.
    heard: UnixNanos,
    /// Event schemas refused for lack of room, over all plans.
    schemas_refused: u64,
    /// The node reported variables that the plan does not use yet.
    stale: bool,
    /// Series of the previous incarnation that this one lacks were expired.
    settled: bool,
}

impl From<dichroic_wire::Error> for Violation {
    fn from(error: dichroic_wire::Error) -> Self {
        Violation {
            code: error.goodbye_code().unwrap_or(GoodbyeCode::Malformed),
            message: error.to_string(),
        }
    }
}

fn malformed(message: String) -> Violation {
    Violation {
        code: GoodbyeCode::Malformed,
        message,
    }
}

impl Relay {
    /// A relay after the handshake. `retained` is from earlier connections of the node; `same_epoch` if it did not restart since.
    pub fn new(
        store: &mut Core,
        config: &Config,
        source: Arc<Source>,
        hello: RelayHello,
        mut retained: RetainedState,
        same_epoch: bool,
        now: UnixNanos,
    ) -> Self {
        let account = match retained.account.take().filter(|_| same_epoch) {
            Some(mut account) => {
                account.reconnected();
                account
            }
            None => Account::new(hello.attempt),
        };
        if !same_epoch {
            retained.series.new_epoch();
        }
        let mut relay = Relay {
            series: SeriesTable::new(
                source.clone(),
                store,
                config.series.min(SERIES_MAX),
                retained.series,
            ),
            blueprint: Blueprint::default(),
            app_metrics: HashMap::new(),
            streams: RelayStreams::default(),
            account,
            terms: HashMap::new(),
            folded: HashMap::new(),
            status: RelayStatus::new(&source, &hello, now),
            source,
            stale: false,
            hello,
            generation: 0,
            unanswered: VecDeque::new(),
            heard: now,
            schemas_refused: 0,
            settled: false,
        };
        relay.configure(store, config);
        relay
    }

    /// Applies changed packs or definitions. Entries that remain keep their totals; series of removed entries expire.
    pub fn configure(&mut self, store: &mut Core, config: &Config) {
        self.blueprint = Blueprint::new(config, &self.hello);
        self.status.variables.clone_from(&self.hello.variables);
        self.stale = false;
        self.register_app_metrics();
        self.series.allow(config.series.min(SERIES_MAX));
        self.series.replan(store, &self.blueprint.measures);
        let without = self.streams.register(store, &self.blueprint.streams);
        if without > 0 {
            self.schemas_refused += without as u64;
            let message = format!(
                "the limit of event schemas is reached: {SCHEMAS_PER_RELAY} per relay, or that of the collector"
            );
            self.blueprint.left_out.push((plural(without, "event"), message));
            let ledger = store.ledger_mut();
            ledger.relay(self.source.id, "schema_limit", self.schemas_refused);
        }
    }

    /// Adds app metrics to the measures of the plan, which take precedence.
    fn register_app_metrics(&mut self) {
        for (key, measure) in &self.app_metrics {
            let planned = self.blueprint.measures.entry(*key);
            planned.or_insert_with(|| measure.clone());
        }
    }

    /// Writes the PLAN: all aggregates, and the streams that `interest` or the configuration request. Entries that do not fit the
    /// relay's `max_frame` are left out and listed as refused in the status.
    pub fn plan(
        &mut self,
        config: &Config,
        interest: &Interest,
        generation: i64,
        now: UnixNanos,
        out: &mut Vec<u8>,
    ) {
        self.generation = generation;
        let wanted = |spec: &StreamSpec| spec.wanted(config, interest);
        let mut plan = Plan {
            generation,
            flush_ms: config.flush_interval.as_millis().clamp(10, 60_000) as u32,
            linger_s: match self.hello.mode {
                hello::RelayMode::Installed => 0,
                hello::RelayMode::Attached => config.attached_linger_s,
            },
            limits: PlanLimits {
                series: self.series.limit(),
                string: config.string,
                credit: config.credit,
                rows_per_s: config.max_events_per_second,
            },
            aggregates: self.blueprint.aggregates.clone(),
            streams: self.streams.request(&self.blueprint.streams, wanted),
            carries: self.blueprint.carries.clone(),
        };
        self.status.refused = self.blueprint.left_out.clone();
        plan.streams.truncate(PLAN_ENTRIES - plan.aggregates.len());
        let before = out.len();
        let mut cut = 0;
        loop {
            let fits = match plan.write(out) {
                Ok(()) => frame::body(&out[before..]).len() <= self.hello.max_frame as usize,
                Err(_) => false,
            };
            if fits || (plan.aggregates.is_empty() && plan.streams.is_empty()) {
                break;
            }
            out.truncate(before);
            // Streams are cut before aggregates, and later entries before earlier ones.
            let entries = if plan.streams.is_empty() {
                plan.aggregates.len()
            } else {
                plan.streams.len()
            };
            let keep = entries - entries.div_ceil(8);
            cut += entries - keep;
            match plan.streams.is_empty() {
                true => plan.aggregates.truncate(keep),
                false => plan.streams.truncate(keep),
            }
        }
        self.unanswered.push_back(SentPlan {
            generation,
            interest: interest.generation,
            at: now,
            streams: plan.streams.iter().map(|stream| stream.schema).collect(),
        });
        if cut > 0 {
            let message = format!(
                "the plan exceeds the relay's max_frame of {} bytes",
                self.hello.max_frame
            );
            self.status.refused.push((format!("{cut} entries"), message));
        }
    }

    /// Reports to the store which streams the node can send. Call it after [`Relay::plan`].
    pub fn report_streams(&mut self, store: &mut Core, now: UnixNanos) {
        while self.unanswered.len() > UNANSWERED_PLANS
            && let Some(plan) = self.unanswered.pop_front()
        {
            self.switch(store, &plan, &HashSet::new(), None, now);
        }
        self.report_sent(store, TimeRange { start: now, end: now });
    }

    fn report_sent(&self, store: &mut Core, off: TimeRange) {
        store.node_sends(self.source.id, self.streams.sent(&self.blueprint.streams), off);
    }

    /// The interest has changed, but the plan has everything that the node can send of it.
    pub fn covers(&mut self, store: &mut Core, interest: u64, now: UnixNanos) {
        match self.unanswered.back_mut() {
            Some(plan) => plan.interest = interest,
            None => store.node_answered(self.source.id, interest, now),
        }
    }

    /// The relay has applied a plan. `reply`: its reply, if it sent one.
    fn switch(
        &mut self,
        store: &mut Core,
        plan: &SentPlan,
        refused: &HashSet<u32>,
        reply: Option<&PlanReply>,
        now: UnixNanos,
    ) {
        let time = |time: Option<i64>| u64::try_from(time?).ok().filter(|time| *time > 0);
        let sent = &plan.streams - refused;
        self.streams
            .switch(&sent, reply.and_then(|r| time(r.rows_until)).unwrap_or(now));
        // A relay that does not report the times has switched in between.
        let off = TimeRange {
            start: reply.and_then(|reply| time(reply.rows_until)).unwrap_or(plan.at),
            end: reply.and_then(|reply| time(reply.rows_from)).unwrap_or(now),
        };
        self.report_sent(store, off);
        store.node_answered(self.source.id, plan.interest, now);
    }

    /// The connection has ended.
    pub fn disconnected(&mut self, store: &mut Core, now: UnixNanos) {
        // A plan without a reply may have ended streams.
        let unanswered = &self.unanswered;
        self.streams
            .withdraw(|schema| unanswered.iter().any(|plan| !plan.streams.contains(&schema)));
        let off = TimeRange {
            start: self.heard.saturating_sub(IN_FLIGHT),
            end: now,
        };
        self.report_sent(store, off);
        let last: Vec<(Arc<EventSchema>, UnixNanos)> = self
            .streams
            .last_rows()
            .map(|(schema, time)| (schema.clone(), time))
            .collect();
        let last = last.iter().map(|(schema, time)| (schema, *time));
        store.node_disconnected(self.source.id, self.heard, last, now);
    }

    /// Whether the node reported variables that the plan does not use yet.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether the requested streams differ from those of the current plan.
    pub fn streams_differ(&self, config: &Config, interest: &Interest) -> bool {
        let wanted = |spec: &StreamSpec| spec.wanted(config, interest);
        self.streams.differs(&self.blueprint.streams, wanted)
    }

    /// After a reload, resolves series without new rows again, in batches. Call regularly while connected.
    pub fn resolve_again(&mut self, store: &mut Core, now: UnixNanos) {
        self.series.resolve_again(store, now);
    }

    /// Applies one frame and appends replies to `out`.
    ///
    /// # Errors
    /// The violation that ends the connection.
    pub fn frame(
        &mut self,
        store: &mut Core,
        frame: RawFrame<'_>,
        now: UnixNanos,
        out: &mut Vec<u8>,
    ) -> Result<FrameOutcome, Violation> {
        self.heard = now;
        match frame.frame_type {
            FrameType::Numbers => self.numbers(store, frame.body, now)?,
            FrameType::Histograms => self.histograms(store, frame.body, now)?,
            FrameType::Define => self.define(store, frame.body)?,
            FrameType::Events => self.events(store, frame.body, now)?,
            FrameType::Ping => {
                let Ping(token) = Ping::decode(frame.body)?;
                self.flush(store, now);
                Pong(token).write(out);
            }
            FrameType::Pong => {
                Pong::decode(frame.body)?;
            }
            FrameType::Plan => self.reply(store, PlanReply::decode(frame.body)?, now),
            FrameType::Goodbye => return Ok(FrameOutcome::Goodbye(Goodbye::decode(frame.body)?)),
            FrameType::Unknown(_) => self.status.unknown_frames += 1,
            FrameType::Hello | FrameType::Gap | FrameType::Mixed => {
                return Err(malformed(format!(
                    "{} is not expected from a relay here",
                    frame.frame_type.name()
                )));
            }
        }
        Ok(FrameOutcome::Continue)
    }

    /// A PING ends a flush. After the first flush with totals (a node may have none at first), series that only the previous
    /// incarnation had expire: the exposition is never empty in between and never shows both.
    fn flush(&mut self, store: &mut Core, now: UnixNanos) {
        self.series.resolve_again(store, now);
        self.status.flushes += 1;
        self.account.flushed();
        if !self.settled && (self.status.rows > 0 || self.status.flushes >= SETTLE_FLUSHES) {
            self.settled = true;
            self.series.settle(store);
        }
    }

    fn numbers(&mut self, store: &mut Core, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
        let numbers = Numbers::decode(body)?;
        let time = time(numbers.time, now);
        let mut tally = Tally::default();
        let mut account_rows = Vec::new();
        let mut wrong = None;
        let mut rows = numbers.rows();
        'frame: while rows.len() > 0 {
            // Prefetch the cells of a group, so that their cache misses overlap; then apply the rows.
            let group: [Option<NumberRow>; GROUP] = std::array::from_fn(|_| rows.next());
            let seen: u64 = group
                .iter()
                .flatten()
                .map(|row| self.series.prefetch(store, row.series))
                .sum();
            std::hint::black_box(seen);
            for row in group.into_iter().flatten() {
                match self.series.number(store, row, time, now) {
                    Ok(Applied::Account) => account_rows.push((row.series, row.int as u64)),
                    Ok(applied) => tally.add(applied),
                    Err(message) => {
                        wrong = Some(message);
                        break 'frame;
                    }
                }
            }
        }
        let unread = numbers.len() as u64 - tally.received - account_rows.len() as u64;
        for (id, value) in account_rows {
            if value > ACCOUNT_MOST {
                wrong.get_or_insert(InvalidRow(format!(
                    "series {id}: account value {value} exceeds the limit"
                )));
            } else {
                self.account_row(store, id, value);
            }
        }
        self.count(store, tally, unread, wrong)
    }

    fn histograms(&mut self, store: &mut Core, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
        let histograms = Histograms::decode(body)?;
        let time = time(histograms.time, now);
        let mut tally = Tally::default();
        let (mut wrong, mut unread) = (None, 0);
        for row in histograms.rows() {
            if wrong.is_some() {
                unread += 1;
                continue;
            }
            match self.series.histogram(store, &row, time, now) {
                Ok(Applied::Account) => {
                    unread += 1;
                    wrong = Some(InvalidRow(format!(
                        "series {} is a term of the account, but HISTOGRAMS has a row for it",
                        row.series
                    )));
                }
                Ok(applied) => tally.add(applied),
                Err(message) => {
                    unread += 1;
                    wrong = Some(message);
                }
            }
        }
        self.count(store, tally, unread, wrong)
    }

    /// Counts the rows of a frame in the ledger; rows after an invalid one were not read.
    fn count(
        &mut self,
        store: &mut Core,
        tally: Tally,
        unread: u64,
        wrong: Option<InvalidRow>,
    ) -> Result<(), Violation> {
        let id = self.source.id;
        let ledger = store.ledger_mut();
        ledger.received(id, Signal::Metrics, tally.received + unread);
        ledger.applied(id, Signal::Metrics, tally.applied);
        for (reason, n) in &tally.hidden {
            ledger.hidden(id, Signal::Metrics, *reason, *n);
        }
        for (reason, n) in &tally.dropped {
            ledger.dropped(id, Signal::Metrics, *reason, *n);
        }
        self.status.rows += tally.received + unread;
        match wrong {
            None => Ok(()),
            Some(InvalidRow(message)) => {
                ledger.dropped(id, Signal::Metrics, DropReason::Malformed, unread);
                Err(malformed(message))
            }
        }
    }

    fn events(&mut self, store: &mut Core, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
        let id = self.source.id;
        let unanswered = &self.unanswered;
        let planned = |schema| unanswered.iter().any(|plan| plan.streams.contains(&schema));
        match self.streams.publish(store, &self.source, body, planned, now) {
            Ok((schema, rows, published)) => {
                self.account.received(schema, rows);
                self.status.events += rows;
                let signal = self.streams.signal(schema);
                let ledger = store.ledger_mut();
                ledger.received(id, signal, rows);
                match published {
                    Published::Yes => ledger.applied(id, signal, rows),
                    Published::Withdrawn => {
                        ledger.dropped(id, signal, DropReason::Withdrawn, rows);
                    }
                }
                Ok(())
            }
            Err(EventsError::Format(error)) => Err(error.into()),
            Err(EventsError::Violation(message, rows)) => {
                let ledger = store.ledger_mut();
                ledger.received(id, Signal::Events, rows);
                ledger.dropped(id, Signal::Events, DropReason::Malformed, rows);
                Err(malformed(message))
            }
        }
    }

    fn reply(&mut self, store: &mut Core, reply: PlanReply, now: UnixNanos) {
        if self.hello.variables != reply.variables {
            self.hello.variables.clone_from(&reply.variables);
            self.stale = true;
        }
        let schema = |entry: Option<i64>| u32::try_from(entry?).ok();
        let refused = reply.refused.iter().filter_map(|refused| schema(refused.entry));
        let refused: HashSet<u32> = refused.collect();
        let is_answered = |plan: &SentPlan| plan.generation <= reply.generation;
        while self.unanswered.front().is_some_and(is_answered)
            && let Some(plan) = self.unanswered.pop_front()
        {
            let answered = plan.generation == reply.generation;
            self.switch(store, &plan, &refused, answered.then_some(&reply), now);
        }
        if reply.generation != self.generation {
            // This answers an earlier plan; the reply to the current one is still to come.
            return;
        }
        self.status.attached = reply.attached;
        if self.status.generation == reply.generation {
            return;
        }
        self.status.generation = reply.generation;
        for refused in reply.refused {
            let name = self.entry_name(refused.entry);
            let node = &self.hello.node;
            tracing::warn!(node = %node, entry = %name, reason = %refused.message, "node cannot collect this metric or event; the others are not affected");
            self.status.refused.push((name, refused.message));
        }
    }

    fn entry_name(&self, entry: Option<i64>) -> String {
        let Some(entry) = entry else {
            // Refusals without an entry name their subject in the message: `metrics: …`, `ecto_prefix: …`, `carry of …: …`.
            return self.hello.node.clone();
        };
        if let Some(measure) = self.blueprint.measures.get(&(entry as u64)) {
            return measure.name.clone();
        }
        match u32::try_from(entry).ok().and_then(|id| self.streams.schema(id)) {
            Some(schema) => schema.name.clone(),
            None => format!("entry {entry}"),
        }
    }

    /// The source in the store.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Its HELLO.
    pub fn hello(&self) -> &RelayHello {
        &self.hello
    }

    /// Its status, for the admin API and the logs.
    pub fn status(&mut self) -> RelayStatus {
        self.status.series = self.series.alive();
        self.status.backwards = self.series.backwards;
        self.status.clone()
    }

    /// Takes the state for the next connection of this node; this one has ended.
    pub fn retain(&mut self) -> RetainedState {
        RetainedState {
            series: self.series.retain(),
            account: Some(std::mem::replace(&mut self.account, Account::new(1))),
        }
    }
}

/// Time of reading; the collector's time for a relay without a clock.
fn time(reported: i64, now: UnixNanos) -> UnixNanos {
    match u64::try_from(reported) {
        Ok(time) if time > 0 => time,
        _ => now,
    }
}

/// Rows of one frame.
#[derive(Default)]
struct Tally {
    received: u64,
    applied: u64,
    hidden: Vec<(HiddenReason, u64)>,
    dropped: Vec<(DropReason, u64)>,
}

impl Tally {
    #[inline]
    fn add(&mut self, applied: Applied) {
        self.received += 1;
        match applied {
            Applied::Yes => self.applied += 1,
            Applied::Hidden(reason) => count_reason(&mut self.hidden, reason, 1),
            Applied::Dropped(reason) => count_reason(&mut self.dropped, reason, 1),
            Applied::Account => {}
        }
    }
}

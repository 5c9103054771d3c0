//! What a relay's frames do to the store: one connection without its socket.
//!
//! The session feeds it whole frames in order; it answers with bytes to send. It never waits. An error ends the connection with
//! words; what was applied before stays, and the ledger counts the rest of the frame as dropped.

use crate::Config;
use crate::account::{Account, Term, gap_reason, reason_word};
use crate::events::{Published, Refusal, Streams};
pub use crate::identity::source_spec;
use crate::plan::{Blueprint, Measure};
use crate::series::{Applied, Legacy, SeriesTable, Wrong};
use crate::status::RelayStatus;
use dichroic_model::attributes::Attributes;
use dichroic_model::{AttributeValue, GapReason, Pattern, Source, UnixNanos};
use dichroic_pipeline::{DropReason, Signal, Store};
use dichroic_wire::define::{Define, DefineKind, RelaySeries};
use dichroic_wire::limits::{PLAN_ENTRIES, RESERVED_KEYS, SERIES_EVER};
use dichroic_wire::plan::{Plan, PlanLimits, PlanReply};
use dichroic_wire::value::{Cell, ListRef};
use dichroic_wire::{
    FrameType, Goodbye, GoodbyeCode, Histograms, NumberRow, Numbers, Ping, Pong, RawFrame, RelayHello, hello,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A relay at a million rows a second comes to this in a century; what says more would only spoil the ledger.
const ACCOUNT_MOST: u64 = 1 << 52;

/// Rows whose cells are looked at together: 17.5 ns a row against 22.5 one by one and 19 with 16 (random order, 100,000 series).
const GROUP: usize = 8;

/// Flushes after which a node that counts nothing has nothing to count.
const SETTLE_FLUSHES: u64 = 3;

/// Why the connection ends: what GOODBYE says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its code.
    pub code: GoodbyeCode,
    /// Its words.
    pub words: String,
}

/// What a frame asks of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing more.
    Nothing,
    /// The relay says goodbye: nothing follows.
    Goodbye(Goodbye),
}

/// What a node hands from one connection to the next.
#[derive(Debug, Default)]
pub struct Heritage {
    pub(crate) series: Legacy,
    account: Option<Account>,
}

/// One relay's connection.
#[derive(Debug)]
pub struct Relay {
    source: Arc<Source>,
    hello: RelayHello,
    blueprint: Blueprint,
    series: SeriesTable,
    streams: Streams,
    account: Account,
    /// Ids that are terms of the account.
    terms: HashMap<u32, Term>,
    status: RelayStatus,
    generation: i64,
    /// What the incarnation before had and this one has not was let go.
    settled: bool,
}

impl From<dichroic_wire::Error> for Violation {
    fn from(error: dichroic_wire::Error) -> Self {
        Violation {
            code: error.goodbye_code().unwrap_or(GoodbyeCode::Malformed),
            words: error.to_string(),
        }
    }
}

fn malformed(words: String) -> Violation {
    Violation {
        code: GoodbyeCode::Malformed,
        words,
    }
}

impl Relay {
    /// A relay that was greeted. `heritage` is of connections of the same node; `same_epoch` when nothing restarted since.
    pub fn new(
        store: &mut Store,
        config: &Config,
        source: Arc<Source>,
        hello: RelayHello,
        mut heritage: Heritage,
        same_epoch: bool,
        now: UnixNanos,
    ) -> Self {
        let account = match heritage.account.take().filter(|_| same_epoch) {
            Some(mut account) => {
                account.reconnected();
                account
            }
            None => Account::new(hello.attempt),
        };
        if !same_epoch {
            heritage.series.new_epoch();
        }
        let mut relay = Relay {
            series: SeriesTable::new(
                source.clone(),
                store,
                config.series.min(SERIES_EVER),
                heritage.series,
            ),
            blueprint: Blueprint::default(),
            streams: Streams::default(),
            account,
            terms: HashMap::new(),
            status: status(&source, &hello, now),
            source,
            hello,
            generation: 0,
            settled: false,
        };
        relay.configure(store, config);
        relay
    }

    /// Packs or definitions changed. Entries that stay keep their totals; series of those that go leave.
    pub fn configure(&mut self, store: &mut Store, config: &Config) {
        self.blueprint = Blueprint::new(config, &self.hello);
        self.series.allow(config.series.min(SERIES_EVER));
        self.series.replan(store, &self.blueprint.measures);
        let without = self.streams.register(store, &self.blueprint.streams);
        if without > 0 {
            let words = "the collector knows as many event schemas as it may".to_owned();
            self.blueprint.left_out.push((format!("{without} events"), words));
        }
    }

    /// The PLAN to send: everything that is counted, and the raw events that `interest` or the configuration ask for. What does not
    /// fit the relay's frames is left out and told.
    pub fn plan(&mut self, config: &Config, interest: &[Pattern], generation: i64, out: &mut Vec<u8>) {
        self.generation = generation;
        let wanted = |spec: &crate::plan::StreamSpec| spec.wanted(interest.iter().chain(&config.keep));
        let mut plan = Plan {
            generation,
            flush_ms: config.flush.as_millis().clamp(10, 60_000) as u32,
            linger_s: match self.hello.mode {
                hello::RelayMode::Installed => 0,
                hello::RelayMode::Attached => config.attached_linger_s,
            },
            limits: PlanLimits {
                series: self.series.limit(),
                string: config.string,
                credit: config.credit,
                rows_per_s: config.rows_per_s,
            },
            aggregates: self.blueprint.aggregates.clone(),
            streams: self.streams.ask(&self.blueprint.streams, wanted),
            carries: self.blueprint.carries.clone(),
        };
        self.status.refused = self.blueprint.left_out.clone();
        plan.streams.truncate(PLAN_ENTRIES - plan.aggregates.len());
        let before = out.len();
        let mut cut = 0;
        loop {
            let fits = match plan.write(out) {
                Ok(()) => out.len() - before <= self.hello.max_frame as usize + 5,
                Err(_) => false,
            };
            if fits || (plan.aggregates.is_empty() && plan.streams.is_empty()) {
                break;
            }
            out.truncate(before);
            // Metrics are worth more than raw events, and those that come first more than the last.
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
        if cut > 0 {
            let words = format!(
                "the plan is larger than the {} bytes that the relay takes",
                self.hello.max_frame
            );
            self.status.refused.push((format!("{cut} entries"), words));
        }
    }

    /// Whether other raw events are wanted than the present plan asks for.
    pub fn asks_otherwise(&self, config: &Config, interest: &[Pattern]) -> bool {
        let wanted = |spec: &crate::plan::StreamSpec| spec.wanted(interest.iter().chain(&config.keep));
        self.streams.differs(&self.blueprint.streams, wanted)
    }

    /// Applies one frame. Answers go to `out`.
    pub fn frame(
        &mut self,
        store: &mut Store,
        frame: RawFrame<'_>,
        now: UnixNanos,
        out: &mut Vec<u8>,
    ) -> Result<After, Violation> {
        match frame.frame_type {
            FrameType::Numbers => self.numbers(store, frame.body, now)?,
            FrameType::Histograms => self.histograms(store, frame.body, now)?,
            FrameType::Define => self.define(store, frame.body)?,
            FrameType::Events => self.events(store, frame.body, now)?,
            FrameType::Ping => {
                let Ping(token) = Ping::decode(frame.body)?;
                self.flush(store);
                Pong(token).write(out);
            }
            FrameType::Pong => {
                Pong::decode(frame.body)?;
            }
            FrameType::Plan => self.reply(PlanReply::decode(frame.body)?),
            FrameType::Goodbye => return Ok(After::Goodbye(Goodbye::decode(frame.body)?)),
            FrameType::Unknown(_) => self.status.unknown_frames += 1,
            FrameType::Hello | FrameType::Gap => {
                return Err(malformed(format!(
                    "{} is not expected from a relay here",
                    frame.frame_type.name()
                )));
            }
        }
        Ok(After::Nothing)
    }

    /// A PING ends a flush. The first with totals in it (a node that has just begun may have none yet) shows what the incarnation
    /// before had and this one has not; so a page is never empty in between, and never shows both.
    fn flush(&mut self, store: &mut Store) {
        self.status.flushes += 1;
        self.account.flushed();
        if !self.settled && (self.status.rows > 0 || self.status.flushes >= SETTLE_FLUSHES) {
            self.settled = true;
            self.series.settle(store);
        }
    }

    fn numbers(&mut self, store: &mut Store, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
        let numbers = Numbers::decode(body)?;
        let time = time(numbers.time, now);
        let mut tally = Tally::default();
        let mut account_rows = Vec::new();
        let mut wrong = None;
        let mut rows = numbers.rows();
        'frame: while rows.len() > 0 {
            // First a look at every cell of a group, whose cache misses overlap; then the work on each, which finds them there.
            let group: [Option<NumberRow>; GROUP] = std::array::from_fn(|_| rows.next());
            let seen: u64 = group
                .iter()
                .flatten()
                .map(|row| self.series.look(store, row.series))
                .sum();
            std::hint::black_box(seen);
            for row in group.into_iter().flatten() {
                match self.series.number(store, row, time, now) {
                    Ok(Applied::Account) => account_rows.push((row.series, row.int as u64)),
                    Ok(applied) => tally.add(applied),
                    Err(words) => {
                        wrong = Some(words);
                        break 'frame;
                    }
                }
            }
        }
        let unread = numbers.len() as u64 - tally.received - account_rows.len() as u64;
        for (id, value) in account_rows {
            if value > ACCOUNT_MOST {
                wrong.get_or_insert(Wrong(format!("series {id}: no account counts to {value}")));
            } else {
                self.account_row(store, id, value);
            }
        }
        self.count(store, tally, unread, wrong)
    }

    fn histograms(&mut self, store: &mut Store, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
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
                    wrong = Some(Wrong(format!(
                        "series {} is of the account, HISTOGRAMS has a row for it",
                        row.series
                    )));
                }
                Ok(applied) => tally.add(applied),
                Err(words) => {
                    unread += 1;
                    wrong = Some(words);
                }
            }
        }
        self.count(store, tally, unread, wrong)
    }

    /// Puts a frame's rows into the ledger; those after a wrong one were not read.
    fn count(
        &mut self,
        store: &mut Store,
        tally: Tally,
        unread: u64,
        wrong: Option<Wrong>,
    ) -> Result<(), Violation> {
        let id = self.source.id;
        let ledger = store.ledger_mut();
        ledger.received(id, Signal::Metrics, tally.received + unread);
        ledger.applied(id, Signal::Metrics, tally.applied);
        for (reason, n) in &tally.dropped {
            ledger.dropped(id, Signal::Metrics, *reason, *n);
        }
        self.status.rows += tally.received + unread;
        match wrong {
            None => Ok(()),
            Some(Wrong(words)) => {
                ledger.dropped(id, Signal::Metrics, DropReason::Malformed, unread);
                Err(malformed(words))
            }
        }
    }

    fn events(&mut self, store: &mut Store, body: &[u8], now: UnixNanos) -> Result<(), Violation> {
        let id = self.source.id;
        match self.streams.publish(store, &self.source, body, now) {
            Ok((schema, rows, published)) => {
                self.account.received(schema, rows);
                self.status.events += rows;
                let ledger = store.ledger_mut();
                ledger.received(id, Signal::Events, rows);
                match published {
                    Published::Yes => ledger.applied(id, Signal::Events, rows),
                    Published::Withdrawn => ledger.dropped(id, Signal::Events, DropReason::Withdrawn, rows),
                }
                Ok(())
            }
            Err(Refusal::Format(error)) => Err(error.into()),
            Err(Refusal::Agreement(words, rows)) => {
                let ledger = store.ledger_mut();
                ledger.received(id, Signal::Events, rows);
                ledger.dropped(id, Signal::Events, DropReason::Malformed, rows);
                Err(malformed(words))
            }
        }
    }

    fn define(&mut self, store: &mut Store, body: &[u8]) -> Result<(), Violation> {
        let define = Define::decode(body)?;
        if define.kind != DefineKind::Series {
            return Err(malformed(format!(
                "a relay defines series, not a {}",
                define.kind.name()
            )));
        }
        for (id, meaning) in define.entries() {
            match meaning {
                None if !self.series.is_defined(id) => {
                    return Err(malformed(format!("series {id} is forgotten but not defined")));
                }
                None => {
                    if let Some(term) = self.terms.remove(&id) {
                        self.account.forget(&term);
                    }
                    self.series.forget(id, store);
                }
                Some(map) => self.define_one(id, &RelaySeries::read(map)?)?,
            }
        }
        Ok(())
    }

    fn define_one(&mut self, id: u32, series: &RelaySeries<'_>) -> Result<(), Violation> {
        if id >= self.series.limit() {
            return Err(Violation {
                code: GoodbyeCode::Limit,
                words: format!("series {id}: the plan allows ids below {}", self.series.limit()),
            });
        }
        if self.series.is_defined(id) {
            return Err(malformed(format!("series {id} is already defined")));
        }
        if series.key < RESERVED_KEYS {
            let term = Term::read(series).ok_or_else(|| {
                malformed(format!(
                    "labels of the account's key {} are not its own",
                    series.key
                ))
            })?;
            self.series.define_account(id);
            self.terms.insert(id, term);
            return Ok(());
        }
        // A key that the plan does not have was withdrawn while the definition was on its way.
        let labels = match self.series.measure(series.key) {
            Some(measure) if measure.labels.len() != series.labels.len() => {
                return Err(malformed(format!(
                    "series {id} has {} labels, {} has {}",
                    series.labels.len(),
                    measure.name,
                    measure.labels.len()
                )));
            }
            Some(measure) => attributes(measure, series.labels, series.overflow),
            None => Attributes::default(),
        };
        let start = u64::try_from(series.start).unwrap_or(0);
        self.series.define(id, series.key, labels, start);
        Ok(())
    }

    fn account_row(&mut self, store: &mut Store, id: u32, value: u64) {
        let Some(term) = self.terms.get(&id).cloned() else {
            return;
        };
        let text = self.term_text(&term);
        store.ledger_mut().relay(self.source.id, text, value);
        match term {
            Term::Sent(schema) => {
                let lost = self.account.sent(schema, value);
                if lost > 0 {
                    let ledger = store.ledger_mut();
                    ledger.received(self.source.id, Signal::Events, lost);
                    ledger.dropped(self.source.id, Signal::Events, DropReason::RelayBroke, lost);
                    self.gap(store, schema, GapReason::RelayBroke, lost);
                }
            }
            Term::Dropped(schema, reason) => {
                let lost = self.account.dropped(schema, reason, value);
                if lost > 0 {
                    self.gap(store, schema, gap_reason(reason), lost);
                }
            }
            _ => {}
        }
    }

    fn gap(&self, store: &mut Store, schema: u32, reason: GapReason, lost: u64) {
        // A schema of a collector before this one: nobody here can be told.
        if let Some(schema) = self.streams.schema(schema) {
            store.publish_gap(schema, &self.source, reason, Some(lost));
        }
    }

    fn term_text(&self, term: &Term) -> String {
        let event = |schema: &u32| match self.streams.schema(*schema) {
            Some(schema) => schema.name.clone(),
            None => format!("schema {schema}"),
        };
        let metric = |key: &u64| match self.blueprint.measures.get(key) {
            Some(measure) => measure.name.clone(),
            None => format!("key {key:#018x}"),
        };
        match term {
            Term::Sent(schema) => format!("rows_sent{{event={:?}}}", event(schema)),
            Term::Dropped(schema, reason) => {
                format!(
                    "rows_dropped{{event={:?},reason={:?}}}",
                    event(schema),
                    reason_word(*reason)
                )
            }
            Term::Skipped(key, why) => format!("skipped{{metric={:?},reason={why:?}}}", metric(key)),
            Term::Failures => "handler_failures".to_owned(),
            Term::Reattached => "reattached".to_owned(),
            Term::Overflowed(key) => format!("overflowed{{metric={:?}}}", metric(key)),
            Term::Unknown(key) => format!("unknown{{key=\"{key}\"}}"),
        }
    }

    fn reply(&mut self, reply: PlanReply) {
        if reply.generation != self.generation {
            // Of a plan before the last: the next reply is on its way.
            return;
        }
        self.status.attached = reply.attached;
        if self.status.generation == reply.generation {
            return;
        }
        self.status.generation = reply.generation;
        for refused in reply.refused {
            let what = self.entry_text(refused.entry);
            let node = &self.hello.node;
            tracing::warn!(node = %node, entry = %what, words = %refused.words, "the relay refused an entry of its plan");
            self.status.refused.push((what, refused.words));
        }
    }

    fn entry_text(&self, entry: Option<i64>) -> String {
        let Some(entry) = entry else {
            return "a carried value".to_owned();
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

    /// What it said of itself.
    pub fn hello(&self) -> &RelayHello {
        &self.hello
    }

    /// What people are told.
    pub fn status(&mut self) -> RelayStatus {
        self.status.series = self.series.alive();
        self.status.backwards = self.series.backwards;
        self.status.clone()
    }

    /// What the next connection of this node needs. This one is over.
    pub fn hand_over(&mut self) -> Heritage {
        Heritage {
            series: self.series.hand_over(),
            account: Some(std::mem::replace(&mut self.account, Account::new(1))),
        }
    }
}

fn status(source: &Source, hello: &RelayHello, now: UnixNanos) -> RelayStatus {
    RelayStatus {
        source: Some(source.id),
        node: hello.node.clone(),
        os_pid: hello.os_pid,
        agent: hello.agent.clone(),
        otp: hello.otp.clone(),
        telemetry: hello.telemetry.clone(),
        attached_mode: hello.mode == hello::RelayMode::Attached,
        epoch: hello.epoch,
        attempt: hello.attempt,
        since: now,
        ended: None,
        end: String::new(),
        generation: 0,
        attached: 0,
        refused: Vec::new(),
        series: 0,
        rows: 0,
        backwards: 0,
        events: 0,
        flushes: 0,
        unknown_frames: 0,
    }
}

/// Labels by name. Null is no label; a series that stands for all others has none of its own.
fn attributes(measure: &Measure, labels: ListRef<'_>, overflow: bool) -> Attributes {
    let mut pairs = Vec::with_capacity(labels.len());
    if overflow {
        pairs.push((
            Cow::Borrowed("otel_metric_overflow"),
            AttributeValue::from("true"),
        ));
    } else {
        for (name, cell) in measure.labels.iter().zip(labels.iter()) {
            if let Some(value) = attribute(cell) {
                pairs.push((Cow::Borrowed(name.as_str()), value));
            }
        }
    }
    Attributes::pack(&mut pairs)
}

fn attribute(cell: Cell<'_>) -> Option<AttributeValue<'_>> {
    Some(match cell {
        Cell::Bool(flag) => AttributeValue::Bool(flag),
        Cell::Int(int) => AttributeValue::Int(int),
        Cell::Float(float) => AttributeValue::Float(float),
        Cell::Str(text) | Cell::CutStr { kept: text, .. } => text.into(),
        Cell::Bytes(bytes) => AttributeValue::Str(String::from_utf8_lossy(bytes)),
        Cell::Null | Cell::List(_) | Cell::Map(_) => return None,
    })
}

/// When rows were read. A relay without a clock is taken at the collector's.
fn time(told: i64, now: UnixNanos) -> UnixNanos {
    match u64::try_from(told) {
        Ok(time) if time > 0 => time,
        _ => now,
    }
}

/// Rows of one frame.
#[derive(Default)]
struct Tally {
    received: u64,
    applied: u64,
    dropped: Vec<(DropReason, u64)>,
}

impl Tally {
    #[inline]
    fn add(&mut self, applied: Applied) {
        self.received += 1;
        match applied {
            Applied::Yes => self.applied += 1,
            Applied::Dropped(reason) => match self.dropped.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, n)) => *n += 1,
                None => self.dropped.push((reason, 1)),
            },
            Applied::Account => {}
        }
    }
}

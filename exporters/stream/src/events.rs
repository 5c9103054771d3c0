//! An event or log subscription: batches from the store pass the filter and are written, or queued in the ring while the subscriber
//! is behind. Small batches are gathered in frames of many schemas, because a frame costs its reader more than its rows: a row waits
//! at most `within` for a fuller frame, and a full frame is written at once.

use crate::account::Account;
use crate::client::ClientInfo;
use crate::config::Config;
use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::filter::{Filter, Selection};
use crate::memory::Memory;
use crate::outgoing::Outgoing;
use crate::request::Request;
use crate::ring::{Gap, Pushed, Ring, RingItem};
use crate::rows::{Gathered, RowStorage, Rows};
use crate::share::no_memory;
use dichroic_model::text::plural;
use dichroic_model::{Batch, EventSchema, GapReason, Source};
use dichroic_pipeline::{StreamItem, Subscription};
use dichroic_wire::hello::OnFull;
use dichroic_wire::{Events, EventsScratch, GoodbyeCode, MixedBuilder};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Whole batches of at most this many rows are gathered: a frame costs its reader more than that many rows.
const SMALL: u32 = 32;

/// Where a resumed subscription starts.
#[derive(Debug, Default, Clone, Copy)]
struct Skip {
    /// Rows before this position.
    before: u64,
    /// Then this many matching rows.
    rows: u64,
}

/// A frame under construction: consecutive rows of any schemas and sources.
struct Gathering {
    builder: MixedBuilder,
    /// Schema and source of each of the builder's contexts.
    contexts: Vec<(Arc<EventSchema>, Arc<Source>)>,
    positions: Vec<u64>,
    /// When its first row was added; `None` without rows.
    since: Option<Instant>,
}

/// One event or log subscription.
pub(crate) struct EventSource {
    pub subscription: Subscription,
    ring: Ring,
    /// Of the ring.
    memory: Memory,
    max_bytes: usize,
    /// Whether the last rows for the ring were too many for it.
    full: bool,
    filter: Filter,
    scratch: EventsScratch,
    matching: Vec<u32>,
    gathering: Gathering,
    skip: Skip,
    account: Account,
    batch_rows: usize,
    /// Longest time from the first row of a frame under construction to its end.
    within: Duration,
    /// Whether small batches wait also while the subscriber is not behind. Otherwise they are written at once.
    lingers: bool,
}

impl EventSource {
    /// `resumed`: the replay contains the cursor of the request; only then rows before it are skipped.
    pub fn new(
        subscription: Subscription,
        request: &Request,
        resumed: bool,
        account: Account,
        memory: Memory,
        client: &ClientInfo,
        config: &Config,
    ) -> Self {
        let skip = match request.cursor {
            Some(cursor) if resumed => Skip {
                before: cursor.position,
                rows: cursor.rows.into(),
            },
            _ => Skip::default(),
        };
        // Other formats have no frames to fill: they wait only on request.
        let lingers = client.mixes || request.within.is_some();
        let within = request.within.unwrap_or(config.batch_delay);
        EventSource {
            subscription,
            ring: Ring::new(request.buffer, config.buffer_bytes, request.on_full),
            memory,
            max_bytes: config.buffer_bytes,
            full: false,
            filter: request.filter.clone(),
            scratch: EventsScratch::default(),
            matching: Vec::new(),
            gathering: Gathering {
                builder: MixedBuilder::new(client.max_frame),
                contexts: Vec::new(),
                positions: Vec::new(),
                since: None,
            },
            skip,
            account,
            batch_rows: config.batch_rows.min(request.buffer),
            within: if lingers || !request.filter.is_open() {
                within
            } else {
                Duration::ZERO
            },
            lingers: lingers && !within.is_zero(),
        }
    }

    /// When the frame under construction must be sent. While the subscriber is behind it may become fuller: it is sent when the bytes
    /// before it are written.
    pub fn deadline(&self, out: &Outgoing) -> Option<Instant> {
        let since = self.gathering.since.filter(|_| out.is_empty())?;
        Some(since + self.within)
    }

    /// Whether no rows are queued.
    pub fn is_drained(&self) -> bool {
        self.ring.is_empty() && self.gathering.since.is_none() && self.subscription.items.is_empty()
    }

    /// Rows whose last byte was written.
    pub fn sent(&self, rows: u64) {
        if rows > 0 {
            self.account.sent(rows);
        }
    }

    /// Encodes queued rows while the buffer has room, and sends the frame under construction when it is due.
    pub fn fill(&mut self, out: &mut Outgoing, encoder: &mut Encoder, now: Instant) {
        self.drain(out, encoder);
        if self.deadline(out).is_some_and(|deadline| deadline <= now) {
            // Cannot fail: nothing is queued, so the ring is empty and the buffer has room.
            let _ = self.close(out, encoder);
        }
    }

    fn drain(&mut self, out: &mut Outgoing, encoder: &mut Encoder) {
        if self.ring.is_empty() || !out.has_room() {
            return;
        }
        self.full = false;
        while out.has_room() {
            match self.ring.pop() {
                Some(RingItem::Rows(rows)) => self.encode(rows, out, encoder),
                Some(RingItem::Gap(gap)) => encoder.gap(&mut out.bytes, &gap),
                None => break,
            }
        }
        // Cannot fail: the ring has become smaller.
        let _ = self.memory.hold(self.ring.bytes());
    }

    /// Adds a loss at the current position.
    pub fn gap(&mut self, gap: Gap) {
        self.ring.push_gap(gap);
    }

    /// Takes an item from the store. An error ends the subscription.
    pub fn accept(
        &mut self,
        item: StreamItem,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        let lost = self.subscription.take_lost();
        if lost > 0 {
            self.lost_in_channel(lost, out, encoder)?;
        }
        match item {
            StreamItem::Batch(batch) => self.batch(batch, out, encoder),
            StreamItem::Gap {
                schema,
                source,
                reason,
                lost,
                time,
            } => {
                if let Some(source) = source
                    && !self.filter.may_select(schema.as_deref(), &source)
                {
                    return Ok(());
                }
                self.close(out, encoder)?;
                self.ring.push_gap(Gap {
                    schema,
                    reason,
                    lost,
                    time,
                });
                Ok(())
            }
        }
    }

    /// Reports rows that this thread did not take in time. With a filter, the number of matching rows among them is unknown.
    fn lost_in_channel(
        &mut self,
        lost: u64,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        self.close(out, encoder)?;
        self.account.lost(lost);
        if self.ring.on_full() == OnFull::Disconnect {
            let message = format!(
                "too slow: {} lost before the buffer; read faster",
                plural(lost, "row")
            );
            return Err(SubscribeError::new(GoodbyeCode::Slow, 0, message));
        }
        self.ring.push_gap(Gap {
            schema: None,
            reason: GapReason::Slow,
            lost: self.filter.is_open().then_some(lost),
            time: None,
        });
        Ok(())
    }

    fn batch(
        &mut self,
        batch: Arc<Batch>,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        let from = self.skip.before.saturating_sub(batch.position);
        let from = from.min(batch.rows.into()) as u32;
        let behind = !self.ring.is_empty() || !out.is_empty();
        if self.full && out.is_unread() {
            return self.unread(batch, from, out, encoder);
        }
        let gathers = batch.rows <= SMALL && (behind || self.lingers);
        if self.filter.is_open() && !gathers {
            return self.whole(batch, from, out, encoder);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = match Events::decode(&batch.body, &mut scratch) {
            Ok(events) => self.parts(&batch, from, &events, out, encoder),
            // Cannot happen: the receiver has validated the body. The encoder logs it and sends a gap.
            Err(_) => self.whole(batch, from, out, encoder),
        };
        self.scratch = scratch;
        result
    }

    /// Takes a batch while the subscriber does not read and its ring is full: no work for rows that are lost anyway. With a filter the
    /// number of matching rows among them is unknown.
    fn unread(
        &mut self,
        batch: Arc<Batch>,
        from: u32,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        if self.filter.is_open() {
            return self.whole(batch, from, out, encoder);
        }
        self.close(out, encoder)?;
        self.account.lost(u64::from(batch.rows - from));
        self.ring.push_gap(Gap {
            schema: None,
            reason: GapReason::Slow,
            lost: None,
            time: None,
        });
        Ok(())
    }

    fn whole(
        &mut self,
        batch: Arc<Batch>,
        from: u32,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        self.close(out, encoder)?;
        let from = from + self.skip(u64::from(batch.rows - from)) as u32;
        let to = batch.rows;
        if from == to {
            return Ok(());
        }
        let storage = RowStorage::Shared(batch);
        self.account.offered(u64::from(to - from));
        self.enqueue(Rows { storage, from, to }, out, encoder)
    }

    /// Skips up to `rows` rows of a resumed subscription; returns how many.
    fn skip(&mut self, rows: u64) -> u64 {
        let skipped = self.skip.rows.min(rows);
        self.skip.rows -= skipped;
        skipped
    }

    /// Takes some rows of a batch, or all rows of a small one.
    fn parts(
        &mut self,
        batch: &Arc<Batch>,
        from: u32,
        events: &Events<'_>,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        let mut rows = std::mem::take(&mut self.matching);
        rows.clear();
        let all = match self
            .filter
            .select(&batch.schema, &batch.source, batch.position, events)
        {
            Selection::All => {
                rows.extend(0..batch.rows);
                true
            }
            Selection::Some(some) => {
                rows.extend_from_slice(some);
                false
            }
        };
        let result = if all && batch.rows > SMALL {
            self.whole(batch.clone(), from, out, encoder)
        } else {
            rows.retain(|row| *row >= from);
            let skipped = self.skip(rows.len() as u64) as usize;
            self.account.offered((rows.len() - skipped) as u64);
            self.gather(batch, &rows[skipped..], events, out, encoder)
        };
        self.matching = rows;
        result
    }

    fn gather(
        &mut self,
        batch: &Arc<Batch>,
        mut rows: &[u32],
        events: &Events<'_>,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        while !rows.is_empty() {
            let Gathering {
                builder,
                contexts,
                positions,
                since,
            } = &mut self.gathering;
            let had = builder.rows();
            let room = self.batch_rows.saturating_sub(had);
            let chosen = rows.iter().take(room).map(|row| *row as usize);
            let appended = builder.append(batch.schema.id, batch.source.id.0, events, chosen);
            let added = builder.rows() - had;
            if added > 0 {
                since.get_or_insert_with(Instant::now);
                if builder.contexts().len() > contexts.len() {
                    contexts.push((batch.schema.clone(), batch.source.clone()));
                }
                positions.extend(rows[..added].iter().map(|row| batch.position + u64::from(*row)));
            }
            rows = &rows[added..];
            let full = builder.rows() >= self.batch_rows;
            if appended.is_err() {
                // The row exceeds the subscriber's frame size.
                rows = &rows[1..];
                self.close(out, encoder)?;
                self.account.dropped(1);
                self.ring.push_gap(Gap {
                    schema: Some(batch.schema.clone()),
                    reason: GapReason::RowTooLarge,
                    lost: Some(1),
                    time: None,
                });
            } else if full || !rows.is_empty() {
                self.close(out, encoder)?;
            }
        }
        Ok(())
    }

    /// Completes the frame under construction.
    fn close(&mut self, out: &mut Outgoing, encoder: &mut Encoder) -> Result<(), SubscribeError> {
        let gathering = &mut self.gathering;
        if gathering.since.take().is_none() {
            return Ok(());
        }
        let mut frame = Vec::new();
        let finished = gathering.builder.finish(gathering.positions[0], &mut frame);
        let gathered = Gathered {
            frame: frame.into(),
            contexts: gathering.contexts.drain(..).collect(),
            positions: gathering.positions.drain(..).collect(),
        };
        let to =
            finished.map_err(|error| SubscribeError::new(GoodbyeCode::Internal, 0, error.to_string()))?;
        let storage = RowStorage::Gathered(Arc::new(gathered));
        let (from, to) = (0, to as u32);
        self.enqueue(Rows { storage, from, to }, out, encoder)
    }

    /// Encodes rows at once if the ring is empty, otherwise queues them in it.
    fn enqueue(
        &mut self,
        rows: Rows,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        self.drain(out, encoder);
        if self.ring.is_empty() && out.has_room() {
            self.encode(rows, out, encoder);
            return Ok(());
        }
        let wanted = self.max_bytes.min(self.ring.bytes() + rows.bytes());
        let has_memory = self.memory.hold(wanted);
        self.ring.set_max_bytes(if has_memory {
            self.max_bytes
        } else {
            self.memory.held()
        });
        match self.ring.push(rows) {
            Pushed::Queued { dropped: 0 } => Ok(()),
            Pushed::Queued { dropped } => {
                self.full = true;
                self.account.dropped(dropped);
                Ok(())
            }
            Pushed::Full if !has_memory => Err(no_memory(
                "the memory for subscribers is used up, and this one is too slow",
            )),
            Pushed::Full => Err(SubscribeError::new(
                GoodbyeCode::Slow,
                0,
                format!(
                    "too slow: the buffer is full with {} rows; read faster, or request a larger buffer",
                    self.ring.rows()
                ),
            )),
        }
    }

    fn encode(&mut self, mut rows: Rows, out: &mut Outgoing, encoder: &mut Encoder) {
        let encoded = encoder.rows(&mut out.bytes, &rows);
        if encoded.lost > 0 {
            self.account.dropped(encoded.lost);
        }
        out.mark(u64::from(encoded.rows) - encoded.lost);
        rows.from += encoded.rows;
        if !rows.is_empty() {
            self.ring.put_back(rows);
        }
    }
}

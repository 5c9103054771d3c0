//! An event or log subscription: batches from the store pass the filter and are written at once, or queued in the ring while the
//! subscriber is behind.

use crate::account::Account;
use crate::config::Config;
use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::filter::{Filter, Selection};
use crate::outgoing::Outgoing;
use crate::request::Request;
use crate::ring::{Gap, Pushed, Ring, RingItem};
use crate::rows::{RowStorage, Rows, Selected};
use dichroic_model::{Batch, EventSchema, GapReason, Source};
use dichroic_pipeline::{StreamItem, Subscription};
use dichroic_wire::hello::OnFull;
use dichroic_wire::{Events, EventsBuilder, EventsScratch, GoodbyeCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Whole batches of at most this many rows are merged while the subscriber is behind: a frame costs its reader more than that
/// many rows.
const SMALL: u32 = 32;

/// Where a resumed subscription starts.
#[derive(Debug, Default, Clone, Copy)]
struct Skip {
    /// Rows before this position.
    before: u64,
    /// Then this many matching rows.
    rows: u64,
}

/// Rows of a frame under construction: consecutive rows of one schema and source.
struct PendingRows {
    schema: Arc<EventSchema>,
    source: Arc<Source>,
    builder: EventsBuilder,
    positions: Vec<u64>,
    since: Instant,
}

/// One event or log subscription.
pub(crate) struct EventSource {
    pub subscription: Subscription,
    ring: Ring,
    filter: Filter,
    scratch: EventsScratch,
    matching: Vec<u32>,
    pending: Option<PendingRows>,
    skip: Skip,
    account: Account,
    max_frame: u32,
    batch_rows: usize,
    batch_delay: Duration,
}

impl EventSource {
    /// `resumed`: the replay contains the cursor of the request; only then rows before it are skipped.
    pub fn new(
        subscription: Subscription,
        request: &Request,
        resumed: bool,
        account: Account,
        max_frame: u32,
        config: &Config,
    ) -> Self {
        let skip = match request.cursor {
            Some(cursor) if resumed => Skip {
                before: cursor.position,
                rows: cursor.rows.into(),
            },
            _ => Skip::default(),
        };
        EventSource {
            subscription,
            ring: Ring::new(request.buffer, config.buffer_bytes, request.on_full),
            filter: request.filter.clone(),
            scratch: EventsScratch::default(),
            matching: Vec::new(),
            pending: None,
            skip,
            account,
            max_frame,
            batch_rows: config.batch_rows,
            batch_delay: config.batch_delay,
        }
    }

    /// When the frame under construction must be sent.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending
            .as_ref()
            .map(|pending| pending.since + self.batch_delay)
    }

    /// Whether no rows are queued.
    pub fn is_drained(&self) -> bool {
        self.ring.is_empty() && self.pending.is_none() && self.subscription.items.is_empty()
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
        // Merged small batches are sent as soon as the subscriber has caught up; selected rows after `batch_delay`.
        let due = (self.filter.is_open() && out.is_empty())
            || self.deadline().is_some_and(|deadline| deadline <= now);
        if self.pending.is_some() && self.ring.is_empty() && out.has_room() && due {
            // Cannot fail: the ring is empty and the buffer has room.
            let _ = self.close(out, encoder);
        }
    }

    fn drain(&mut self, out: &mut Outgoing, encoder: &mut Encoder) {
        while out.has_room() {
            match self.ring.pop() {
                Some(RingItem::Rows(rows)) => self.encode(rows, out, encoder),
                Some(RingItem::Gap(gap)) => encoder.gap(&mut out.bytes, &gap),
                None => return,
            }
        }
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
                schema, reason, lost, ..
            } => {
                self.close(out, encoder)?;
                self.ring.push_gap(Gap { schema, reason, lost });
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
            let message = format!("too slow: {lost} rows lost before the buffer; read faster");
            return Err(SubscribeError::new(GoodbyeCode::Slow, 0, message));
        }
        self.ring.push_gap(Gap {
            schema: None,
            reason: GapReason::Slow,
            lost: self.filter.is_open().then_some(lost),
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
        if self.filter.is_open() && !(behind && batch.rows <= SMALL) {
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
            let other = |pending: &PendingRows| {
                pending.schema.id != batch.schema.id || pending.source.id != batch.source.id
            };
            if self.pending.as_ref().is_some_and(other) {
                self.close(out, encoder)?;
            }
            if self.pending.is_none() {
                self.pending = Some(self.start(batch, events)?);
            }
            let Some(pending) = &mut self.pending else { break };
            let had = pending.builder.rows();
            let room = self.batch_rows.saturating_sub(had);
            let appended = pending
                .builder
                .append(events, rows.iter().take(room).map(|row| *row as usize));
            let added = pending.builder.rows() - had;
            pending
                .positions
                .extend(rows[..added].iter().map(|row| batch.position + u64::from(*row)));
            rows = &rows[added..];
            let full = pending.builder.rows() >= self.batch_rows;
            if appended.is_err() {
                // The row exceeds the subscriber's frame size.
                rows = &rows[1..];
                self.close(out, encoder)?;
                self.account.dropped(1);
                self.ring.push_gap(Gap {
                    schema: Some(batch.schema.clone()),
                    reason: GapReason::RowTooLarge,
                    lost: Some(1),
                });
            } else if full || !rows.is_empty() {
                self.close(out, encoder)?;
            }
        }
        Ok(())
    }

    fn start(&self, batch: &Arc<Batch>, events: &Events<'_>) -> Result<PendingRows, SubscribeError> {
        // Ids and position are set when the frame is sent.
        let builder = EventsBuilder::new(0, 0, events.columns() - 1, self.max_frame)
            .map_err(|error| SubscribeError::new(GoodbyeCode::Internal, 0, error.to_string()))?;
        Ok(PendingRows {
            schema: batch.schema.clone(),
            source: batch.source.clone(),
            builder,
            positions: Vec::new(),
            since: Instant::now(),
        })
    }

    /// Completes the frame under construction.
    fn close(&mut self, out: &mut Outgoing, encoder: &mut Encoder) -> Result<(), SubscribeError> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(());
        };
        let mut frame = Vec::new();
        let rows = pending.builder.finish(0, &mut frame).unwrap_or(0);
        if rows == 0 {
            return Ok(());
        }
        let selected = Selected {
            schema: pending.schema,
            source: pending.source,
            frame: frame.into(),
            positions: pending.positions.into(),
        };
        let storage = RowStorage::Selected(Arc::new(selected));
        let to = rows as u32;
        self.enqueue(Rows { storage, from: 0, to }, out, encoder)
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
        match self.ring.push(rows) {
            Pushed::Queued { dropped: 0 } => Ok(()),
            Pushed::Queued { dropped } => {
                self.account.dropped(dropped);
                Ok(())
            }
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

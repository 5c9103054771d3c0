//! The source of a session's rows: an event subscription, a metric subscription, or none.

use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::events::EventSource;
use crate::outgoing::Outgoing;
use crate::points::PointSource;
use dichroic_pipeline::{Row, StreamItem};
use tokio::time::Instant;

/// The source of a session's rows.
pub(crate) enum RowSource {
    Events(Box<EventSource>),
    Points(Box<PointSource>),
    /// No subscription in the HELLO.
    None,
}

/// An item of a source.
pub(crate) enum SourceItem {
    Stream(StreamItem),
    /// `None` ends a scan of the store.
    Rows(Option<Vec<Row>>),
    /// The store has ended.
    End,
}

impl RowSource {
    /// The next item. Cancel-safe: an item is taken only when the future returns it.
    pub async fn next(&self) -> SourceItem {
        match self {
            RowSource::Events(source) => source
                .subscription
                .items
                .recv()
                .await
                .map_or(SourceItem::End, SourceItem::Stream),
            RowSource::Points(source) => SourceItem::Rows(source.next().await),
            RowSource::None => std::future::pending().await,
        }
    }

    pub fn try_next(&self) -> Option<SourceItem> {
        match self {
            RowSource::Events(source) => source.subscription.items.try_recv().map(SourceItem::Stream),
            _ => None,
        }
    }

    pub fn accept(
        &mut self,
        item: SourceItem,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        match (self, item) {
            (RowSource::Events(source), SourceItem::Stream(item)) => source.accept(item, out, encoder),
            (RowSource::Points(source), SourceItem::Rows(rows)) => {
                source.accept(rows);
                source.fill(out, encoder, Instant::now())
            }
            (_, SourceItem::End) => Err(SubscribeError::shutting_down()),
            _ => Ok(()),
        }
    }

    pub fn fill(
        &mut self,
        out: &mut Outgoing,
        encoder: &mut Encoder,
        now: Instant,
    ) -> Result<(), SubscribeError> {
        match self {
            RowSource::Events(source) => {
                source.fill(out, encoder, now);
                Ok(())
            }
            RowSource::Points(source) => source.fill(out, encoder, now),
            RowSource::None => Ok(()),
        }
    }

    pub fn deadline(&self, out: &Outgoing) -> Option<Instant> {
        match self {
            RowSource::Events(source) => source.deadline(out),
            RowSource::Points(source) => source.deadline(out),
            RowSource::None => None,
        }
    }

    pub fn sent(&self, rows: u64) {
        match self {
            RowSource::Events(source) => source.sent(rows),
            RowSource::Points(source) => source.sent(rows),
            RowSource::None => {}
        }
    }

    pub fn is_drained(&self) -> bool {
        match self {
            RowSource::Events(source) => source.is_drained(),
            _ => true,
        }
    }
}

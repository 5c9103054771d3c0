//! Bounded queues between the threads that emit spans and log records and the thread that exports them.
//!
//! Emitting never blocks: a full queue drops new items. Every item is counted once, as sent or as dropped, with the reason.

use crossbeam_queue::ArrayQueue;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Capacity of a queue, in items: a few seconds of a busy collector, about 1 MiB.
const CAPACITY: usize = 2_048;

/// A finished span.
pub type Span = SpanData;

/// A log record and its scope.
#[derive(Debug)]
pub struct Record(pub SdkLogRecord, pub InstrumentationScope);

/// Sent and dropped traces and logs.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Spans.
    pub traces: Arc<SignalCounts>,
    /// Log records.
    pub logs: Arc<SignalCounts>,
}

/// Counters of one signal.
#[derive(Debug, Default)]
pub struct SignalCounts {
    sent: AtomicU64,
    queue_full: AtomicU64,
    export_failed: AtomicU64,
    shutdown: AtomicU64,
}

impl SignalCounts {
    /// Accepted by the endpoint.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Dropped, by reason.
    pub fn dropped(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("queue_full", read(&self.queue_full)),
            ("export_failed", read(&self.export_failed)),
            ("shutdown", read(&self.shutdown)),
        ]
    }
}

/// A queue of one signal.
#[derive(Debug)]
pub struct Queue<T> {
    items: ArrayQueue<Box<T>>,
    /// Taken, and neither exported nor lost yet. Written only by the exporting thread.
    in_flight: AtomicU64,
    pub(super) counts: Arc<SignalCounts>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            items: ArrayQueue::new(CAPACITY),
            in_flight: AtomicU64::new(0),
            counts: Arc::default(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds an item, or counts it as dropped.
    pub fn push(&self, item: T) {
        if self.items.push(Box::new(item)).is_err() {
            self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes up to `most` items; [`Queue::exported`] or [`Queue::abandon`] must follow.
    pub fn take(&self, most: usize) -> Vec<Box<T>> {
        let items: Vec<_> = std::iter::from_fn(|| self.items.pop()).take(most).collect();
        self.in_flight.store(items.len() as u64, Ordering::Relaxed);
        items
    }

    /// Counts the items taken last as sent, or as failed.
    pub fn exported(&self, ok: bool) {
        let counter = if ok {
            &self.counts.sent
        } else {
            &self.counts.export_failed
        };
        counter.fetch_add(self.in_flight.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts queued and taken items as dropped by the shutdown.
    pub fn abandon(&self) {
        let queued = std::iter::from_fn(|| self.items.pop()).count() as u64;
        let lost = queued + self.in_flight.swap(0, Ordering::Relaxed);
        self.counts.shutdown.fetch_add(lost, Ordering::Relaxed);
    }
}

/// Queues finished spans.
#[derive(Debug)]
pub struct Spans(pub Arc<Queue<Span>>);

impl SpanProcessor for Spans {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Queues log records.
#[derive(Debug)]
pub struct Logs(pub Arc<Queue<Record>>);

impl LogProcessor for Logs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.push(Record(record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_counted_once_as_sent_or_dropped() {
        let queue = Queue::default();
        let take = |most| queue.take(most).len();
        for item in 0..CAPACITY + 3 {
            queue.push(item);
        }
        assert_eq!(take(10), 10);
        queue.exported(true);
        assert_eq!(take(20), 20);
        queue.exported(false);
        assert_eq!(take(30), 30);
        queue.abandon();
        queue.abandon();
        let left = (CAPACITY - 30) as u64;
        assert_eq!(queue.counts.sent(), 10);
        assert_eq!(
            queue.counts.dropped(),
            [("queue_full", 3), ("export_failed", 20), ("shutdown", left)]
        );
    }
}

//! The last batches of one signal, bounded in bytes and age.

use super::request::StreamRequest;
use dichroic_model::{Batch, UnixNanos};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Replay {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Position of the next row.
    pub(super) next: u64,
}

impl Replay {
    pub(super) fn push(&mut self, batch: Arc<Batch>, max_bytes: usize, oldest: UnixNanos) {
        self.next = batch.position + u64::from(batch.rows);
        self.bytes += batch.size();
        self.batches.push_back(batch);
        while self.bytes > max_bytes || self.batches.front().is_some_and(|b| b.received < oldest) {
            let Some(evicted) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= evicted.size();
        }
    }

    /// The batches that a new subscriber gets first.
    pub(super) fn backlog(&self, request: &StreamRequest) -> Vec<Arc<Batch>> {
        let requested = |batch: &&Arc<Batch>| match (request.resume_from, request.replay_from) {
            (Some(position), _) => batch.position + u64::from(batch.rows) > position,
            (None, Some(time)) => batch.received >= time,
            (None, None) => false,
        };
        self.batches
            .iter()
            .filter(requested)
            .filter(|batch| request.matches(&batch.schema))
            .cloned()
            .collect()
    }

    /// Whether every row from the position on is still held or yet to come.
    pub(super) fn reaches(&self, position: u64) -> bool {
        let oldest = self.batches.front().map_or(self.next, |b| b.position);
        (oldest..=self.next).contains(&position)
    }
}

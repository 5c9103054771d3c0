//! The table from fingerprint to slot: 16 bytes an entry, 96 bits of it verified without touching the slot.

use dichroic_model::Fingerprint;
use hashbrown::HashTable;

struct Entry {
    low: u64,
    high: u32,
    slot: u32,
}

/// Fingerprint → slot.
#[derive(Default)]
pub(crate) struct Table(HashTable<Entry>);

fn half(fp: Fingerprint) -> u32 {
    fp.high as u32
}

impl Table {
    #[inline]
    pub(crate) fn find(&self, fp: Fingerprint) -> Option<u32> {
        self.0
            .find(fp.low, |e| e.low == fp.low && e.high == half(fp))
            .map(|e| e.slot)
    }

    pub(crate) fn insert(&mut self, fp: Fingerprint, slot: u32) {
        self.0.insert_unique(
            fp.low,
            Entry {
                low: fp.low,
                high: half(fp),
                slot,
            },
            |e| e.low,
        );
    }

    pub(crate) fn remove(&mut self, fp: Fingerprint, slot: u32) {
        if let Ok(entry) = self.0.find_entry(fp.low, |e| {
            e.low == fp.low && e.high == half(fp) && e.slot == slot
        }) {
            entry.remove();
        }
    }

    /// Bytes that the table holds.
    pub(crate) fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

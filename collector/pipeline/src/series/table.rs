//! The table from fingerprint to slot: 16 bytes per entry, 96 bits of which are verified without reading the slot.

use dichroic_model::Fingerprint;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry::Vacant;

/// The 96 bits of a fingerprint that tables and placements store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: [u32; 2],
    high: u32,
}

impl Key {
    fn low(self) -> u64 {
        u64::from(self.low[0]) | u64::from(self.low[1]) << 32
    }
}

impl Key {
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let [a, b] = self.low.map(u32::to_le_bytes);
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&a);
        bytes[4..8].copy_from_slice(&b);
        bytes[8..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }
}

impl From<Fingerprint> for Key {
    #[inline]
    fn from(fp: Fingerprint) -> Self {
        Key {
            low: [fp.low as u32, (fp.low >> 32) as u32],
            high: fp.high as u32,
        }
    }
}

struct Entry {
    low: u64,
    high: u32,
    slot: u32,
}

/// Fingerprint → slot.
#[derive(Default)]
pub(crate) struct Table {
    entries: HashTable<Entry>,
    /// Number of changes: results from before the last change may be outdated.
    changes: u64,
}

impl Table {
    #[inline]
    pub(crate) fn find(&self, fp: Fingerprint) -> Option<u32> {
        let high = fp.high as u32;
        self.entries
            .find(fp.low, |e| e.low == fp.low && e.high == high)
            .map(|e| e.slot)
    }

    pub(crate) fn find_key(&self, key: Key) -> Option<u32> {
        let low = key.low();
        self.entries
            .find(low, |e| e.low == low && e.high == key.high)
            .map(|e| e.slot)
    }

    /// Maps the key to the slot, replacing an earlier mapping.
    pub(crate) fn insert(&mut self, key: Key, slot: u32) {
        let low = key.low();
        self.changes += 1;
        let entry = self
            .entries
            .entry(low, |e| e.low == low && e.high == key.high, |e| e.low);
        entry.and_modify(|e| e.slot = slot).or_insert(Entry {
            low,
            high: key.high,
            slot,
        });
    }

    /// Maps a key to the slot. `false` if it is mapped already.
    pub(crate) fn insert_new(&mut self, key: Key, slot: u32) -> bool {
        let low = key.low();
        let entry = self
            .entries
            .entry(low, |e| e.low == low && e.high == key.high, |e| e.low);
        let Vacant(entry) = entry else { return false };
        self.changes += 1;
        entry.insert(Entry {
            low,
            high: key.high,
            slot,
        });
        true
    }

    /// Removes the key if it is mapped to the slot.
    pub(crate) fn remove(&mut self, key: Key, slot: u32) {
        let low = key.low();
        self.changes += 1;
        if let Ok(entry) = self
            .entries
            .find_entry(low, |e| e.low == low && e.high == key.high && e.slot == slot)
        {
            entry.remove();
        }
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self) {
        self.changes += 1;
        self.entries = HashTable::new();
    }

    /// A number that differs after every change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Allocated bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.allocation_size()
    }
}

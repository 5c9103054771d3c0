//! The tables of an EVENTS or MIXED frame under construction: distinct entries, and their order in the frame.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::limits::BODY_BYTES_MAX;

/// An entry without a number.
pub(crate) const UNUSED: u16 = u16::MAX;

/// Distinct byte strings, numbered.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    numbers: HashTable<u16>,
    hasher: RandomState,
    ends: Vec<u32>,
    pub bytes: Vec<u8>,
}

fn slice<'b>(ends: &[u32], bytes: &'b [u8], number: u16) -> &'b [u8] {
    let number = usize::from(number);
    let start = if number == 0 { 0 } else { ends[number - 1] as usize };
    &bytes[start..ends[number] as usize]
}

impl Interner {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, number: u16) -> &[u8] {
        slice(&self.ends, &self.bytes, number)
    }

    /// The number of `entry`; `None` if the table is full.
    pub fn intern(&mut self, entry: &[u8], max: usize) -> Option<u16> {
        let Self {
            numbers,
            hasher,
            ends,
            bytes,
        } = self;
        let hash = hasher.hash_one(entry);
        if let Some(number) = numbers.find(hash, |number| slice(ends, bytes, *number) == entry) {
            return Some(*number);
        }
        let number = ends.len();
        if number >= max || bytes.len() + entry.len() > BODY_BYTES_MAX as usize {
            return None;
        }
        bytes.extend_from_slice(entry);
        ends.push(bytes.len() as u32);
        let number = number as u16;
        numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(slice(ends, bytes, *number))
        });
        Some(number)
    }

    /// Removes the entries from number `len` on.
    pub fn truncate(&mut self, len: usize) {
        while self.len() > len {
            let last = (self.len() - 1) as u16;
            let hash = self.hasher.hash_one(self.get(last));
            if let Ok(entry) = self.numbers.find_entry(hash, |number| *number == last) {
                entry.remove();
            }
            self.ends.pop();
        }
        self.bytes
            .truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    pub fn clear(&mut self) {
        self.numbers.clear();
        self.ends.clear();
        self.bytes.clear();
    }
}

/// The order of a table's entries, by first use.
#[derive(Debug, Default)]
pub(crate) struct Order {
    new_number: Vec<u16>,
    pub entries: Vec<u16>,
}

impl Order {
    pub fn reset(&mut self, len: usize) {
        self.new_number.clear();
        self.new_number.resize(len, UNUSED);
        self.entries.clear();
    }

    pub fn number(&mut self, entry: u16) -> u16 {
        let index = usize::from(entry);
        if index >= self.new_number.len() {
            self.new_number.resize(index + 1, UNUSED);
        }
        if self.new_number[index] == UNUSED {
            self.new_number[index] = self.entries.len() as u16;
            self.entries.push(entry);
        }
        self.new_number[index]
    }
}

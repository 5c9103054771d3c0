//! The strings and values of a frame that is being built, each once: what the builders of EVENTS and MIXED share.

use crate::error::Result;
use crate::interner::{Interner, UNUSED};
use crate::limits::{EVENT_STRINGS, EVENT_VALUES};
use crate::value::Cell;

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub strings: Interner,
    pub values: Interner,
    /// Values in `values` including nested elements, which the frame's limit counts.
    pub nested: usize,
    /// One encoded value.
    encoded: Vec<u8>,
    /// Numbers of the copied frame's strings in this one.
    copied: Vec<u16>,
}

impl Tables {
    /// Begins to copy rows of a frame with this number of strings.
    pub fn begin_copy(&mut self, strings: usize) {
        self.copied.clear();
        self.copied.resize(strings, UNUSED);
    }

    /// The number of a string of the copied frame, which is interned once; `None` if the table is full.
    #[inline]
    pub fn copied_string<'t>(&mut self, index: usize, text: impl FnOnce() -> &'t str) -> Option<u16> {
        if self.copied[index] == UNUSED {
            self.copied[index] = self.string(text())?;
        }
        Some(self.copied[index])
    }

    /// The number of a string; `None` if the table is full.
    #[inline]
    pub fn string(&mut self, text: &str) -> Option<u16> {
        self.strings.intern(text.as_bytes(), EVENT_STRINGS)
    }

    /// The number of a value; `None` if the table is full.
    ///
    /// # Errors
    /// As [`Cell::encode`].
    #[inline]
    pub fn value(&mut self, cell: Cell<'_>) -> Result<Option<u16>> {
        self.encoded.clear();
        cell.encode(&mut self.encoded)?;
        let before = self.values.len();
        let number = self.values.intern(&self.encoded, EVENT_VALUES);
        if self.values.len() > before {
            self.nested += cell.count_values();
        }
        Ok(number)
    }

    /// Removes all but the first strings and values. The numbers of the copied frame's strings are forgotten, because they may refer
    /// to removed entries.
    pub fn truncate(&mut self, strings: usize, values: usize, nested: usize) {
        self.strings.truncate(strings);
        self.values.truncate(values);
        self.nested = nested;
        self.copied.fill(UNUSED);
    }

    pub fn clear(&mut self) {
        self.strings.clear();
        self.values.clear();
        self.nested = 0;
    }
}

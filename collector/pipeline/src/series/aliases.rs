//! The fingerprints of a series: the last one in its placement, earlier ones in a table.

use super::Series;
use super::table::Key;

/// Accounted bytes of an earlier fingerprint and its part of the list.
pub(super) const ALIAS_BYTES: usize = 32;

impl Series {
    pub(crate) fn add_alias(&mut self, index: u32, alias: Key) {
        if self.table.find_key(alias) == Some(index) {
            return;
        }
        let placement = &mut self.placements[index as usize];
        let last = std::mem::replace(&mut placement.alias, alias);
        if last != placement.key {
            let all = self.aliases.entry(index).or_default();
            all.push(last);
            self.bytes += ALIAS_BYTES;
            while all.len() + 1 > self.limits.aliases_per_series.max(1) {
                self.table.remove(all.remove(0), index);
                self.bytes -= ALIAS_BYTES;
            }
            if all.is_empty() {
                self.aliases.remove(&index);
            }
        }
        self.table.insert(alias, index);
    }

    /// Removes all fingerprints; then only the key finds the series.
    pub(crate) fn remove_aliases(&mut self, index: u32) {
        let placement = &mut self.placements[index as usize];
        if placement.alias != placement.key {
            self.table.remove(placement.alias, index);
            placement.alias = placement.key;
        }
        if self.aliases.is_empty() {
            return;
        }
        let all = self.aliases.remove(&index).unwrap_or_default();
        self.bytes -= all.len() * ALIAS_BYTES;
        all.iter().for_each(|alias| self.table.remove(*alias, index));
    }

    /// Removes the fingerprints of all series.
    pub(super) fn clear_aliases(&mut self) {
        self.table.clear();
        for placement in &mut self.placements {
            placement.alias = placement.key;
        }
        let removed: usize = self.aliases.drain().map(|(_, all)| all.len()).sum();
        self.bytes -= removed * ALIAS_BYTES;
    }

    /// Sets the key of a series in the table of claims.
    pub(crate) fn set_key(&mut self, index: u32, key: Key) {
        let placement = &mut self.placements[index as usize];
        if placement.alias == placement.key {
            placement.alias = key;
        }
        placement.key = key;
    }
}

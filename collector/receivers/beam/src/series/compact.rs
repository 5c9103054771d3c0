//! Entries of plans that no series of the connection refers to leave the table, so that plan after plan does not make it grow.

use super::{SeriesTable, State, UNPLANNED};
use crate::plan::Measure;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Entries beyond those of the new plan that are left where they are.
const SLACK: usize = 1_024;

impl SeriesTable {
    /// Lets go of entries that are not in the new plan and that no series refers to, when there are many.
    pub(super) fn compact(&mut self, measures: &HashMap<u64, Rc<Measure>>) {
        if self.measures.len() <= 2 * measures.len() + SLACK {
            return;
        }
        let defined = self.entries.iter().filter(|entry| entry.state != State::Free);
        let used: HashSet<u32> = defined.map(|entry| entry.measure).collect();
        let mut before: Vec<_> = std::mem::take(&mut self.measures).into_iter().map(Some).collect();
        let mut kept = Vec::new();
        let mut moved = HashMap::new();
        for (key, index) in std::mem::take(&mut self.measure_indexes) {
            if used.contains(&index) || measures.contains_key(&key) {
                let next = kept.len() as u32;
                kept.extend(before[index as usize].take());
                moved.insert(index, next);
                self.measure_indexes.insert(key, next);
            }
        }
        self.measures = kept;
        for entry in &mut self.entries {
            if entry.measure != UNPLANNED {
                entry.measure = moved.get(&entry.measure).copied().unwrap_or(UNPLANNED);
            }
        }
    }
}

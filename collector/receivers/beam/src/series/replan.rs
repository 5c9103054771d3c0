//! A new plan: series whose entry changed are expired, and entries that no series refers to are removed, so that the table does not
//! grow with each plan.

use super::{Planned, SeriesTable, State, UNPLANNED, kind_of};
use crate::plan::Measure;
use dichroic_pipeline::Core;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Number of unused entries that are tolerated.
const SLACK: usize = 1_024;

impl SeriesTable {
    /// Applies a new plan: series whose entry was removed or changed expire.
    pub fn replan(&mut self, store: &mut Core, measures: &HashMap<u64, Rc<Measure>>) {
        self.compact(measures);
        let mut changed = HashSet::new();
        for (key, index) in &self.measure_indexes {
            let planned = &mut self.measures[*index as usize];
            let before = (!planned.withdrawn).then_some(&planned.measure);
            let after = measures.get(key);
            if before != after {
                planned.withdrawn = after.is_none();
                if let Some(measure) = after {
                    planned.measure = measure.clone();
                }
                changed.insert(*index);
            }
        }
        for (key, measure) in measures {
            let next = self.measures.len() as u32;
            if *self.measure_indexes.entry(*key).or_insert(next) == next {
                self.measures.push(Planned {
                    measure: measure.clone(),
                    withdrawn: false,
                });
            }
        }
        for entry in &mut self.entries {
            let of_plan = matches!(
                entry.state,
                State::Waiting | State::Live | State::Refused(_) | State::Withdrawn
            );
            if !of_plan || !changed.contains(&entry.measure) {
                continue;
            }
            let planned = &self.measures[entry.measure as usize];
            entry.kind = kind_of(&planned.measure);
            entry.state = match planned.withdrawn {
                false => State::Waiting,
                true => State::Withdrawn,
            };
            if let Some(series) = entry.series.take() {
                self.owners.remove(&series);
                store.expire(series);
            }
        }
    }

    /// Removes entries that are not in the new plan and that no series refers to, when there are many.
    fn compact(&mut self, measures: &HashMap<u64, Rc<Measure>>) {
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

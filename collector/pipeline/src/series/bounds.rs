//! Lists of bounds, each stored once while a series uses it.

use crate::hash::HashMap;
use std::sync::Arc;

/// The id of a list.
pub(crate) type BoundsId = u32;

#[derive(Default)]
pub(crate) struct BoundLists {
    by_value: HashMap<Value, BoundsId>,
    lists: Vec<List>,
    free: Vec<BoundsId>,
    bytes: usize,
}

struct List {
    bounds: Arc<[f64]>,
    series: usize,
}

#[derive(PartialEq)]
struct Value(Arc<[f64]>);

// Bounds are always finite.
impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // Equal floats have equal bits, except for zeros.
        self.0.iter().for_each(|b| (b + 0.0).to_bits().hash(state));
    }
}

impl BoundLists {
    /// Adds a series that uses these bounds.
    pub(crate) fn retain(&mut self, bounds: Arc<[f64]>) -> BoundsId {
        if let Some(id) = self.by_value.get(&Value(bounds.clone())).copied() {
            self.lists[id as usize].series += 1;
            return id;
        }
        self.bytes += list_bytes(&bounds);
        let id = self.free.pop().unwrap_or(self.lists.len() as BoundsId);
        self.by_value.insert(Value(bounds.clone()), id);
        let list = List { bounds, series: 1 };
        match self.lists.get_mut(id as usize) {
            Some(free) => *free = list,
            None => self.lists.push(list),
        }
        id
    }

    /// Removes a series that used these bounds.
    pub(crate) fn release(&mut self, id: BoundsId) {
        let list = &mut self.lists[id as usize];
        list.series -= 1;
        if list.series == 0 {
            let bounds = std::mem::replace(&mut list.bounds, Arc::from([]));
            self.bytes -= list_bytes(&bounds);
            self.by_value.remove(&Value(bounds));
            self.free.push(id);
        }
    }

    pub(crate) fn get(&self, id: BoundsId) -> &Arc<[f64]> {
        &self.lists[id as usize].bounds
    }

    /// Bytes of all lists.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes of a list and its entries in both tables.
fn list_bytes(bounds: &[f64]) -> usize {
    size_of_val(bounds) + 96
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_stored_once_and_freed_with_its_last_series() {
        let mut lists = BoundLists::default();
        let one = lists.retain([1.0, 2.0].into());
        assert_eq!(lists.retain([1.0, 2.0].into()), one);
        let other = lists.retain([1.0].into());
        assert_ne!(other, one);
        let bytes = lists.bytes();
        lists.release(one);
        assert_eq!((lists.bytes(), &**lists.get(one)), (bytes, &[1.0, 2.0][..]));
        lists.release(one);
        lists.release(other);
        assert_eq!(lists.bytes(), 0);
        assert_eq!(lists.retain([-0.0].into()), lists.retain([0.0].into()));
        assert!(lists.lists.len() <= 2);
    }
}

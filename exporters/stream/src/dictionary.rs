//! The ids of one connection for the store's ids: dense from 1 on. At the limit the least recently used id is reused.

use std::collections::HashMap;

/// Ids from 1 on (0 means "all schemas" in a GAP and "the connection" as a source).
#[derive(Debug)]
pub(crate) struct Ids {
    limit: u32,
    /// By the store's id: the connection's id, and its last use.
    assigned: HashMap<u32, (u32, u64)>,
    uses: u64,
    /// The last lookup: consecutive rows often have the same schema.
    last: Option<(u32, u32)>,
}

/// An id on this connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// Already defined.
    Defined(u32),
    /// Must be defined now.
    New {
        /// The id.
        id: u32,
        /// Whether its previous definition must be released first.
        release_first: bool,
    },
}

impl Ids {
    /// An empty set of ids, all below `limit`.
    pub fn new(limit: u32) -> Self {
        Ids {
            limit,
            assigned: HashMap::new(),
            uses: 0,
            last: None,
        }
    }

    /// The connection's id for the store's id `store_id`.
    pub fn id(&mut self, store_id: u32) -> Id {
        if let Some((last, id)) = self.last
            && last == store_id
        {
            return Id::Defined(id);
        }
        self.uses += 1;
        let id = match self.assigned.get_mut(&store_id) {
            Some((id, used)) => {
                *used = self.uses;
                Id::Defined(*id)
            }
            None => self.assign(store_id),
        };
        let (Id::Defined(number) | Id::New { id: number, .. }) = id;
        self.last = Some((store_id, number));
        id
    }

    fn assign(&mut self, store_id: u32) -> Id {
        let next = self.assigned.len() as u32 + 1;
        let (id, release_first) = if next < self.limit {
            (next, false)
        } else {
            let oldest = self.assigned.iter().min_by_key(|(_, (_, used))| *used);
            let (oldest, id) = oldest.map_or((0, 1), |(store_id, (id, _))| (*store_id, *id));
            self.assigned.remove(&oldest);
            (id, true)
        };
        self.assigned.insert(store_id, (id, self.uses));
        Id::New { id, release_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_id_is_released_first() {
        let mut ids = Ids::new(4);
        let new = |id, release_first| Id::New { id, release_first };
        let mut check = |store_id, expected| assert_eq!(ids.id(store_id), expected, "store id {store_id}");
        check(70, new(1, false));
        check(70, Id::Defined(1));
        check(80, new(2, false));
        check(90, new(3, false));
        check(70, Id::Defined(1));
        check(91, new(2, true));
        check(80, new(3, true));
        check(70, Id::Defined(1));
    }
}

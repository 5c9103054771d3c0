//! Ids of one connection, mapped from the store's ids: few, dense, and reused least recently used first when full.

use std::collections::HashMap;

/// Ids from 1 on (0 means "all schemas" in a GAP and "the connection" as a source).
#[derive(Debug)]
pub(crate) struct Ids {
    limit: u32,
    known: HashMap<u32, (u32, u64)>,
    uses: u64,
    /// The last lookup: rows of the same schema come in runs.
    last: Option<(u32, u32)>,
}

/// An id on this connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// Defined already.
    Known(u32),
    /// To be defined now.
    New {
        /// The id.
        id: u32,
        /// Whether its previous definition must be released first.
        forget: bool,
    },
}

impl Ids {
    /// No ids yet; they will be below `limit`.
    pub fn new(limit: u32) -> Self {
        Ids {
            limit,
            known: HashMap::new(),
            uses: 0,
            last: None,
        }
    }

    /// The id for the store's id `of`.
    pub fn id(&mut self, of: u32) -> Id {
        if let Some((last, id)) = self.last
            && last == of
        {
            return Id::Known(id);
        }
        self.uses += 1;
        let id = match self.known.get_mut(&of) {
            Some((id, used)) => {
                *used = self.uses;
                Id::Known(*id)
            }
            None => self.give(of),
        };
        let (Id::Known(number) | Id::New { id: number, .. }) = id;
        self.last = Some((of, number));
        id
    }

    fn give(&mut self, of: u32) -> Id {
        let next = self.known.len() as u32 + 1;
        let (id, forget) = if next < self.limit {
            (next, false)
        } else {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used);
            let (store, id) = oldest.map_or((0, 1), |(store, (id, _))| (*store, *id));
            self.known.remove(&store);
            (id, true)
        };
        self.known.insert(of, (id, self.uses));
        Id::New { id, forget }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_used_longest_ago_is_forgotten_first() {
        let mut ids = Ids::new(4);
        let new = |id, forget| Id::New { id, forget };
        let mut check = |of, expected| assert_eq!(ids.id(of), expected, "of {of}");
        check(70, new(1, false));
        check(70, Id::Known(1));
        check(80, new(2, false));
        check(90, new(3, false));
        check(70, Id::Known(1));
        check(91, new(2, true));
        check(80, new(3, true));
        check(70, Id::Known(1));
    }
}

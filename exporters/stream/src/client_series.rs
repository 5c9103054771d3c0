//! The series that one subscriber has been sent: for each slot of the shared table the id on the connection and the last point.

/// Slots of a page. A page is allocated with its first series.
const PAGE: usize = 64;
/// Memory of a page.
pub(crate) const PAGE_BYTES: usize = PAGE * size_of::<ClientSeries>() + size_of::<Option<Page>>();

type Page = Box<[ClientSeries; PAGE]>;

/// A series as the subscriber knows it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ClientSeries {
    /// Hash of the last point sent, so that a restarted scan does not repeat it.
    pub last: u64,
    /// Generation of the definition.
    pub generation: u32,
    /// 0: none. The highest bit: its definition does not fit the subscriber's frames.
    id: u32,
}

const TOO_LARGE: u32 = 1 << 31;

impl ClientSeries {
    pub fn id(&self) -> u32 {
        self.id & !TOO_LARGE
    }

    /// Whether its definition fits the subscriber's frames.
    pub fn fits(&self) -> bool {
        self.id & TOO_LARGE == 0
    }

    pub fn set_fits(&mut self, fits: bool) {
        self.id = self.id() | if fits { 0 } else { TOO_LARGE };
    }
}

/// All series of one subscriber.
#[derive(Debug, Default)]
pub(crate) struct ClientTable {
    pages: Vec<Option<Page>>,
    allocated: usize,
    used: u32,
    free: Vec<u32>,
}

impl ClientTable {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// Its memory, with room for series in `more` adjacent slots.
    pub fn bytes_with(&self, more: usize) -> usize {
        (self.allocated + more.div_ceil(PAGE) + 1) * PAGE_BYTES + self.pages.len() * size_of::<Option<Page>>()
    }

    /// The series of a slot; `true` if it is new.
    pub fn entry(&mut self, slot: u32) -> (&mut ClientSeries, bool) {
        let (page, at) = (slot as usize / PAGE, slot as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let allocated = &mut self.allocated;
        let page = self.pages[page].get_or_insert_with(|| {
            *allocated += 1;
            Box::new([ClientSeries::default(); PAGE])
        });
        let series = &mut page[at];
        let is_new = series.id == 0;
        if is_new {
            self.used += 1;
            series.id = self.free.pop().unwrap_or(self.used);
        }
        (series, is_new)
    }

    /// Whether a slot has a series.
    pub fn has(&self, slot: u32) -> bool {
        let page = self.pages.get(slot as usize / PAGE).and_then(Option::as_ref);
        page.is_some_and(|page| page[slot as usize % PAGE].id != 0)
    }

    /// Removes the series that `keep` refuses, by slot and generation, and returns the ids of their definitions.
    pub fn retain(&mut self, keep: impl Fn(usize, u32) -> bool) -> Vec<u32> {
        let mut released = Vec::new();
        for (page, slot) in self.pages.iter_mut().zip((0..).step_by(PAGE)) {
            let Some(series) = page else { continue };
            let mut left = 0;
            for (at, series) in series.iter_mut().enumerate().filter(|(_, series)| series.id != 0) {
                if keep(slot + at, series.generation) {
                    left += 1;
                    continue;
                }
                if series.fits() {
                    released.push(series.id());
                }
                self.free.push(series.id());
                self.used -= 1;
                *series = ClientSeries::default();
            }
            if left == 0 {
                *page = None;
                self.allocated -= 1;
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_return_with_their_series() {
        let mut table = ClientTable::default();
        for slot in [0, 63, 64, 1_000] {
            let (series, is_new) = table.entry(slot);
            (series.generation, series.last) = (slot + 1, 7);
            assert!(is_new);
        }
        assert_eq!((table.len(), table.entry(1_000).0.id()), (4, 4));
        table.entry(63).0.set_fits(false);
        let released = table.retain(|slot, generation| {
            assert_eq!(slot as u32 + 1, generation);
            slot == 0
        });
        assert_eq!(released, [3, 4], "the definition of 2 was never sent");
        assert_eq!((table.len(), table.allocated), (1, 1));
        assert!(table.has(0) && !table.has(63) && !table.has(1_000) && !table.has(5_000));
        let ids: Vec<_> = (10..13).map(|slot| table.entry(slot).0.id()).collect();
        assert_eq!(ids.len(), 3);
        assert!(ids.iter().all(|id| (2..=4).contains(id)), "{ids:?}");
        assert_eq!(table.entry(20).0.id(), 5);
    }
}

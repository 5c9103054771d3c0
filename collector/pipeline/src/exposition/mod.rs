//! The room of pages: families in page order, and the identity of each series on a page.
//!
//! A page must not show two samples of one identity. Series with the same exposition identity (sample name and labels) get distinguishing
//! labels, are added up, or all but one are hidden: see [`groups`] and [`claims`].

pub(crate) mod claims;
pub(crate) mod clashes;
pub(crate) mod copies;
pub(crate) mod families;
pub(crate) mod groups;
pub(crate) mod identity;

use crate::series::Series;
use crate::series::admission::Removed;
use claims::Claims;
use copies::Copies;
use dichroic_model::Fingerprinter;
use families::Families;
use groups::Groups;

pub(crate) struct Exposition {
    pub(crate) families: Families,
    pub(crate) claims: Claims,
    pub(crate) groups: Groups,
    pub(crate) copies: Copies,
}

impl Exposition {
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        Exposition {
            families: Families::default(),
            claims: Claims::new(hasher),
            groups: Groups::default(),
            copies: Copies::default(),
        }
    }

    /// Adds a new series to its family and its group. It has no identity yet. Returns whether the series of the group get more labels
    /// for it.
    pub(crate) fn add(&mut self, index: u32, series: &mut Series) -> bool {
        let slot = &series.slots[index as usize];
        let Some(meta) = &slot.meta else { return false };
        series.placements[index as usize].family = self.families.add(&meta.metric, index);
        self.groups.add(meta)
    }

    /// Removes a series. If others contend for its identity, its successor becomes visible. Returns contenders that must claim anew.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32, removed: &Removed, series: &mut Series) -> Vec<u32> {
        let left = self.claims.release(index, removed, series);
        if let Some(successor) = left.successor {
            self.copies.add(successor);
        }
        self.groups.remove(removed.meta.group);
        self.families
            .remove(&removed.meta.metric, removed.placement.family);
        self.copies.remove(index);
        left.waiting
    }

    /// Closes holes in families. Only while no copy is under way.
    pub(crate) fn tidy(&mut self, series: &mut Series) {
        let placements = &mut series.placements;
        self.families
            .tidy(|slot, place| placements[slot as usize].family = place);
    }
}

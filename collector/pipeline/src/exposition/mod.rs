//! The room of pages: families in page order, and the identity of each series on a page.
//!
//! A page must not show two samples of one identity. Two series with the same exposition identity (family and labels) contend for it;
//! one wins the claim, by its key, and the other is hidden until the winner is removed.

pub(crate) mod claims;
pub(crate) mod copies;
pub(crate) mod families;
pub(crate) mod identity;

use crate::series::Series;
use crate::series::admission::Removed;
use crate::series::meta::StreamKey;
use claims::Claims;
use copies::Copies;
use dichroic_model::Fingerprinter;
use families::{Families, HOLE};
use std::sync::Arc;

pub(crate) struct Exposition {
    pub(crate) families: Families,
    pub(crate) claims: Claims,
    pub(crate) copies: Copies,
    /// Number of definitions whose family was hidden.
    pub(crate) name_conflicts: u64,
}

impl Exposition {
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        Exposition {
            families: Families::default(),
            claims: Claims::new(hasher),
            copies: Copies::default(),
            name_conflicts: 0,
        }
    }

    /// Adds a new series to its family and claims its identity.
    pub(crate) fn add(&mut self, index: u32, series: &mut Series) {
        let slot = &series.slots[index as usize];
        let Some(meta) = &slot.meta else { return };
        self.name_conflicts += u64::from(slot.hidden);
        series.placements[index as usize].family = self.families.add(&meta.metric, index);
        self.claims.claim(index, series);
        self.copies.add(index);
    }

    /// Removes a series. If others contend for its identity, its successor becomes visible.
    pub(crate) fn remove(&mut self, index: u32, removed: &Removed, series: &mut Series) {
        if let Some(successor) = self.claims.release(index, removed, series) {
            self.copies.add(successor);
        }
        self.families
            .remove(&removed.meta.metric, removed.placement.family);
        self.copies.remove(index);
    }

    /// Closes holes in families and shows families whose names have become free. Only valid while no copy is in progress.
    pub(crate) fn tidy(&mut self, series: &mut Series) {
        let placements = &mut series.placements;
        self.families
            .tidy(|slot, position| placements[slot as usize].family = position);
        let (claims, slots, streams) = (&self.claims, &mut series.slots, &mut series.streams);
        self.families.reveal(|members, metrics| {
            for index in members.iter().filter(|index| **index != HOLE) {
                let slot = &mut slots[*index as usize];
                let Some(meta) = &slot.meta else { continue };
                if let Some(metric) = metrics.get(&meta.metric.id) {
                    let key = StreamKey {
                        metric: metric.clone(),
                        ..meta.stream.key()
                    };
                    let stream = streams.resolve(key, &meta.source_labels);
                    streams.retain(&stream);
                    streams.release(&meta.stream);
                    slot.meta = Some(Arc::new(meta.with_stream(stream)));
                    slot.hidden = claims.is_contender(*index);
                }
            }
        });
    }
}

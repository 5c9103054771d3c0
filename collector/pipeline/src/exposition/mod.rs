//! The room of pages: which families there are, in which order, and which series has a name and a label set there.
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
use families::{Families, GONE};
use std::sync::Arc;

pub(crate) struct Exposition {
    pub(crate) families: Families,
    pub(crate) claims: Claims,
    pub(crate) copies: Copies,
    /// Series whose family has no place on pages, counted when they were defined.
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

    /// Adds a new series: to its family, and to those that claim its identity.
    pub(crate) fn add(&mut self, index: u32, series: &mut Series) {
        let slot = &series.slots[index as usize];
        let Some(meta) = &slot.meta else { return };
        self.name_conflicts += u64::from(slot.hidden);
        series.placements[index as usize].family = self.families.add(&meta.metric, index);
        self.claims.claim(index, series);
        self.copies.note(index);
    }

    /// Removes a series; its successor, if others contend for its identity, becomes visible.
    pub(crate) fn remove(&mut self, index: u32, removed: &Removed, series: &mut Series) {
        if let Some(successor) = self.claims.release(index, removed, series) {
            self.copies.note(successor);
        }
        self.families
            .remove(&removed.meta.metric, removed.placement.family);
        self.copies.forget(index);
    }

    /// Closes holes in families, and shows families whose names have become free. Only while no copy is under way.
    pub(crate) fn tidy(&mut self, series: &mut Series) {
        let placements = &mut series.placements;
        self.families
            .tidy(|slot, place| placements[slot as usize].family = place);
        let (claims, slots, streams) = (&self.claims, &mut series.slots, &mut series.streams);
        self.families.reveal(|members, metrics| {
            for index in members.iter().filter(|index| **index != GONE) {
                let slot = &mut slots[*index as usize];
                let Some(meta) = &slot.meta else { continue };
                if let Some(metric) = metrics.get(&meta.metric.id) {
                    let key = StreamKey {
                        metric: metric.clone(),
                        ..meta.stream.key()
                    };
                    let stream = streams.resolve(key, &meta.source_labels);
                    streams.hold(&stream);
                    streams.release(&meta.stream);
                    slot.meta = Some(Arc::new(meta.with_stream(stream)));
                    slot.hidden = claims.is_contender(*index);
                }
            }
        });
    }
}

//! The 128-bit fingerprint that finds the series of a point without reading its labels.
//!
//! It hashes raw bytes as received, seeded per process and per source, and is only a cache of the series key: for a new fingerprint
//! the store compares whole keys. foldhash is fast but not cryptographic; the random seed prevents a sender from preparing collisions.

use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hasher};

/// A 128-bit hash of a series' raw identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    /// Selects the position in a table.
    pub low: u64,
    /// Verifies it.
    pub high: u64,
}

/// The secret of one process, from which every source's fingerprints are seeded.
#[derive(Debug, Clone, Copy)]
pub struct Seed(pub u64);

impl Seed {
    /// A fresh random seed.
    pub fn random() -> Self {
        Seed(foldhash::quality::RandomState::default().hash_one(0x6469_6368u64))
    }
}

/// Computes the fingerprints of one source. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fingerprinter {
    low: FixedState,
    high: FixedState,
}

impl Fingerprinter {
    /// Seeds by process and by `salt`, which separates sources and protocols.
    pub fn new(seed: Seed, salt: u64) -> Self {
        let mixed = FixedState::with_seed(seed.0).hash_one(salt);
        Fingerprinter {
            low: FixedState::with_seed(mixed),
            high: FixedState::with_seed(mixed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Extends the seed by a common prefix (resource, scope, metric), so that points hash only their own attributes.
    pub fn with(&self, prefix: &[u8]) -> Self {
        let fp = self.of(prefix);
        Fingerprinter {
            low: FixedState::with_seed(fp.low),
            high: FixedState::with_seed(fp.high),
        }
    }

    /// The fingerprint of `bytes`.
    #[inline]
    pub fn of(&self, bytes: &[u8]) -> Fingerprint {
        Fingerprint {
            low: hash(&self.low, bytes),
            high: hash(&self.high, bytes),
        }
    }

    /// Half of the fingerprint of `bytes`, for tables that compare the bytes too.
    #[inline]
    pub fn half(&self, bytes: &[u8]) -> u64 {
        hash(&self.low, bytes)
    }
}

#[inline]
fn hash(state: &FixedState, bytes: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_differ_by_bytes_process_source_and_metric() {
        let f = Fingerprinter::new(Seed(1), 7);
        assert_eq!(f.of(b"abc"), f.of(b"abc"));
        assert_ne!(f.of(b"abc"), f.of(b"abd"));
        assert_ne!(
            f.of(b"abc"),
            Fingerprinter::new(Seed(2), 7).of(b"abc"),
            "another process"
        );
        assert_ne!(
            f.of(b"abc"),
            Fingerprinter::new(Seed(1), 8).of(b"abc"),
            "another source"
        );
        assert_ne!(
            f.with(b"m1").of(b"abc"),
            f.with(b"m2").of(b"abc"),
            "another metric"
        );
    }

    #[test]
    fn a_prefix_cannot_be_shifted_into_the_rest() {
        let f = Fingerprinter::new(Seed(1), 7);
        assert_ne!(f.of(b""), f.of(b"\0"));
        assert_ne!(f.with(b"a").of(b"bc"), f.with(b"ab").of(b"c"));
    }
}

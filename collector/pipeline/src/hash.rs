//! Hash tables with a random seed: fast, and senders cannot choose colliding keys.

pub(crate) type Seeded = foldhash::quality::RandomState;
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, Seeded>;
pub(crate) type HashSet<K> = std::collections::HashSet<K, Seeded>;

//! What flows through the collector: metrics, events, sources, units, series keys, limits. No I/O, no async.

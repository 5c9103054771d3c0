//! Definitions per library: events, units, mapping to semantic conventions, and the code that resolves by them.

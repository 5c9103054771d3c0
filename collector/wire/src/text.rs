//! Frames as text, for golden files and debugging: one line per frame, then one per row.

//! Limits of definitions and expressions.

/// Shortest idle time: exporters need it to show the old incarnation.
pub const EXPIRE_S_MIN: u32 = 300;
/// Most bounds of a distribution.
pub const BOUNDS: usize = 160;
/// Most labels of a definition.
pub const LABELS: usize = 32;
/// Most steps of a path.
pub const PATH_STEPS: usize = 8;

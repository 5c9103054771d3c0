//! Limits of definitions and expressions.

/// Shortest idle time: exporters need it to show the old incarnation.
pub const EXPIRE_S_MIN: u32 = 300;
/// Bounds that a distribution may have.
pub const BOUNDS: usize = 160;
/// Labels that a definition may have.
pub const LABELS: usize = 32;
/// Steps that a path may have.
pub const PATH_STEPS: usize = 8;

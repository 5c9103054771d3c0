//! The client of a subscription, as its transport knows it.

use crate::registry::Format;

/// The client of a subscription and its format.
pub(crate) struct ClientInfo {
    pub agent: String,
    pub format: Format,
    pub max_frame: u32,
    /// Whether it reads MIXED frames.
    pub mixes: bool,
}

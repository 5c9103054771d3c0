//! Encodes HELLO, rows and gaps in a subscriber's format: frames, lines of JSON, or server-sent events.
//!
//! Sans-I/O: everything is appended to a buffer. The frames of one connection share its ids; a definition precedes the first
//! frame that uses it.

mod definitions;
mod encoder;
mod frames;
mod lines;

pub(crate) use definitions::{attribute_map, attribute_value};
pub(crate) use encoder::Encoder;
pub(crate) use frames::Frames;

/// Result of encoding rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Rows encoded or lost; the rest must be passed again after these are written.
    pub rows: u32,
    /// Rows among these that exceed the subscriber's frame size. A gap replaces them.
    pub lost: u64,
}

/// Logs a frame that the codec rejects. This cannot happen: this crate builds frames within the limits of the format.
pub(crate) fn written(result: dichroic_wire::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot encode a frame; this is a bug, please report it");
    }
}

#[cfg(test)]
mod tests;

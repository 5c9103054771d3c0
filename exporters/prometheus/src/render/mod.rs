//! Renders rows into a page, chunk by chunk, into one buffer that is reused for the next page.
//!
//! Takes chunks in family order, as `pipeline::Snapshot` returns them; a family may span chunks, and its header is written once. Labels are rendered when a series is defined, so a sample costs three copies and one formatted number: about 20 ns.
//! Samples that a format forbids are omitted and counted.

mod bounds;
mod exemplar;
mod family_layout;
mod histogram;
mod les;
mod line;
mod number;
mod renderer;
mod split;
mod summary;
mod target_info;
mod utf8;

pub use renderer::Renderer;

/// Optional parts of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `_created` samples in OpenMetrics, for series with a stated start time.
    pub created: bool,
    /// Exemplars in OpenMetrics.
    pub exemplars: bool,
    /// Names with other characters than ASCII as they are, in quotes; otherwise escaped.
    pub utf8: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            created: true,
            exemplars: true,
            utf8: false,
        }
    }
}

/// Number of rows of one page by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows on the page.
    pub shown: u64,
    /// Rows hidden because another series has their exposition identity, or another family their name.
    pub hidden: u64,
    /// Rows whose value or labels the format cannot represent.
    pub unfit: u64,
}

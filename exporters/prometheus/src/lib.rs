//! The Prometheus page: the series of the store as text 0.0.4 or OpenMetrics 1.0.
//!
//! | task | function |
//! |---|---|
//! | answer `GET /metrics` | [`negotiate`], [`accepts_gzip`], [`Pages`] |
//! | render rows of a snapshot | [`Renderer`] |
//!
//! Both formats have the same samples. They differ only where a format requires it:
//!
//! | difference | text 0.0.4 | OpenMetrics 1.0 |
//! |---|---|---|
//! | start times of counters, histograms, summaries | – | `_created`, where the sender stated them |
//! | exemplars | – | on counters and histogram buckets, up to 128 characters |
//! | `_count` of a histogram without a sum | written | omitted with `_sum`, as the format requires |
//! | types `info`, `stateset` / `gaugehistogram` / `unknown` | `gauge` / `histogram` / `untyped` | the same types |
//! | a scraped counter without `_total` | `counter` | `unknown` |
//! | units | – | `# UNIT`, where the name ends with the unit |
//!
//! A family is *split* into families of unknown type, one for each sample name, where another family has one of its names, or where
//! OpenMetrics forbids a value under its type: NaN or negative counters and sums, negative quantiles, an info that is not 1, a state that
//! is not 0 or 1. So every sample is on the page.
//!
//! Sources: Prometheus documentation, "Exposition formats"; OpenMetrics 1.0, "Data Model" and "Text format".
#![forbid(unsafe_code)]

mod gzip;
mod negotiate;
pub mod page;
pub mod pages;
pub mod render;
mod window;

pub use negotiate::{Format, Negotiated, accepts_gzip, negotiate};
pub use page::{PageKind, page};
pub use pages::{Opened, Pages, Refused, Rendered, Rendering};
pub use render::{Options, Renderer, Stats};
pub use window::{Cut, Reader};

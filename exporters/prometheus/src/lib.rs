//! The Prometheus page: what the store holds, as text 0.0.4 or OpenMetrics 1.0.
//!
//! | to do | call |
//! |---|---|
//! | answer `GET /metrics` | [`negotiate`], [`accepts_gzip`], [`page()`] |
//! | render rows that are at hand | [`Renderer`] |
//!
//! Both pages hold the same samples. They differ only where a format says so:
//!
//! | what | text 0.0.4 | OpenMetrics 1.0 |
//! |---|---|---|
//! | start times of counters, histograms, summaries | – | `_created`, where the sender told them |
//! | exemplars | – | on counters and histogram buckets, up to 128 characters |
//! | `_count` of a histogram without a known sum | there | left out with `_sum`, as the format demands |
//! | what OpenMetrics forbids: NaN or negative counters and sums, negative quantiles, an info that is not 1, a state that is not 0 or 1 | there | left out, counted in [`Stats::unfit`] |
//! | types `info`, `stateset` / `gaugehistogram` / `unknown` | `gauge` / `histogram` / `untyped` | their own |
//! | a scraped counter without `_total` | `counter` | `unknown` |
//! | units | – | `# UNIT`, where the name ends with it |
#![forbid(unsafe_code)]

mod negotiate;
pub mod page;
pub mod render;

pub use negotiate::{Format, accepts_gzip, negotiate};
pub use page::{page, page_with};
pub use render::{Options, Renderer, Stats};

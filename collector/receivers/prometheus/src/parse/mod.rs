//! Exposition pages, read in place.
//!
//! Two parsers, [`text`] (Prometheus text 0.0.4, as tolerant as Prometheus is) and [`openmetrics`] (OpenMetrics 1.0,
//! strict), walk a page and give out [`Item`]s that borrow from it. The scraper's ingest is their caller. They promise
//! to allocate nothing per sample, never to panic, and to say of a bad page at which line and column it is bad, what
//! stands there and what should.
//!
//! A caller that has seen a series before need not have it read again: [`Quick`] is a line cut at its last space, valid
//! if the bytes before that space are already known to be a whole series.

mod braces;
mod error;
mod escaped;
mod family;
mod item;
mod labels;
mod lex;
mod number;
pub mod openmetrics;
mod parser;
mod quick;
mod rules;
pub mod text;

pub use error::{FOUND_CHARS, ParseError};
pub use escaped::Escaped;
pub use family::{FamilyKind, Role};
pub use item::{Exemplar, Item, Sample, Series};
pub use labels::{LabelIter, Labels};
pub use parser::Parser;
pub use quick::Quick;

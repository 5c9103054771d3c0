//! Exposition pages, read in place.
//!
//! Two parsers, [`text`] (Prometheus text 0.0.4) and [`openmetrics`] (OpenMetrics 1.0), both as tolerant as Prometheus (OpenMetrics
//! strict on request), walk a page and return [`Item`]s that borrow from it. [`crate::ingest`] calls them. They allocate nothing per sample and never panic;
//! an error has line and column, the text found there, and what to write instead.
//!
//! A caller that has seen a series before can skip its labels: [`Quick`] is a line cut at its last space, valid if the bytes
//! before that space are known to be a whole series.

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
mod violation;

pub use error::{FOUND_CHARS, ParseError};
pub use escaped::Escaped;
pub use family::{FamilyKind, Role};
pub use item::{Exemplar, Item, Sample, Series};
pub use labels::{LabelIter, Labels};
pub use parser::Parser;
pub use quick::Quick;
pub use violation::{Violation, Violations};

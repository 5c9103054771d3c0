//! Tagged values: what HELLO, PLAN, DEFINE and the value table of EVENTS are made of. [`Value`] owns its content;
//! [`Cell`] is the same read in place. One encoding per value: whatever else the bytes say is refused.

mod cell;
mod encoding;
mod owned;
mod tag;

pub(crate) use cell::{Budget, check};
pub use cell::{Cell, ListRef, MapRef};
pub use encoding::CANONICAL_NAN_BITS;
pub(crate) use encoding::{bounded, cut_at, float_bits};
pub use owned::{Map, Value};
pub(crate) use owned::{count_values, encode_map};

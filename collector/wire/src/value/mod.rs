//! Tagged values, the content of HELLO, PLAN, DEFINE and the value table of EVENTS. [`Value`] owns its content;
//! [`Cell`] is read in place. Each value has one encoding; any other is rejected.
//!
//! ```
//! use dichroic_wire::Value;
//!
//! let value = Value::List(vec![Value::Int(200), Value::from("GET")]);
//! let mut bytes = Vec::new();
//! value.encode(&mut bytes)?;
//! assert_eq!(Value::decode(&bytes)?, value);
//! assert!(Value::decode(&bytes[..bytes.len() - 1]).is_err());
//! # Ok::<(), dichroic_wire::Error>(())
//! ```

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

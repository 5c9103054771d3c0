//! The relay's reply to a plan.

use crate::error::Result;
use crate::frame;
use crate::frame_type::FrameType;
use crate::hello::map_body;
use crate::input::Input;
use crate::map::{Fields, put, put_some};
use crate::map_kind::MapKind;
use crate::value::{self, Map, Value};
use crate::variables::{self, Variables};

/// A relay's reply to a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanReply {
    /// The plan's number.
    pub generation: i64,
    /// Number of events with a handler.
    pub attached: u32,
    /// Entries that the relay refuses, with the reason.
    pub refused: Vec<Refused>,
    /// Values of the templates in event names.
    pub variables: Variables,
    /// Since when rows of all streams of the plan are sent, unix ns of the relay's clock.
    pub rows_from: Option<i64>,
    /// Until when rows of streams that the plan withdrew were sent, unix ns of the relay's clock.
    pub rows_until: Option<i64>,
}

/// An entry that a relay refuses. It does not affect the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Key of the aggregate or id of the schema, as on the wire; `None` for an entry without one.
    pub entry: Option<i64>,
    /// The reason, possibly cut by the relay.
    pub message: String,
}

impl PlanReply {
    /// Decodes a body; unknown keys are ignored.
    ///
    /// # Errors
    /// A missing required key, a value of the wrong type.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let map = map_body(&mut Input::new(body, Some(FrameType::Plan)))?;
        let fields = Fields::new(FrameType::Plan, MapKind::PlanReply, &map);
        let refused = |item: &Value| match item.as_list()? {
            [Value::Int(entry), message] => Some(Refused {
                entry: Some(*entry),
                message: text(message)?,
            }),
            [Value::Null, message] => Some(Refused {
                entry: None,
                message: text(message)?,
            }),
            _ => None,
        };
        let refused: Option<_> = fields.list("refused")?.iter().map(refused).collect();
        let variables = variables::read(&fields)?;
        Ok(Self {
            variables,
            rows_from: fields.opt_int("rows_from")?,
            rows_until: fields.opt_int("rows_until")?,
            generation: fields.int("generation")?,
            attached: fields.u32("attached")?,
            refused: match refused {
                Some(refused) => refused,
                None => return fields.bad("refused", "a list of [key or schema, message]"),
            },
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unwritable`] if it exceeds a limit of the format.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        let pair = |refused: &Refused| {
            let entry = refused.entry.map_or(Value::Null, Value::Int);
            Value::List(vec![entry, Value::from(refused.message.as_str())])
        };
        let mut map = Map::new();
        put_some(&mut map, "variables", variables::map(&self.variables));
        put(&mut map, "generation", self.generation);
        put(&mut map, "attached", self.attached);
        put_some(&mut map, "rows_from", self.rows_from);
        put_some(&mut map, "rows_until", self.rows_until);
        put(
            &mut map,
            "refused",
            self.refused.iter().map(pair).collect::<Vec<_>>(),
        );
        frame::write(out, FrameType::Plan, |out| value::encode_map(&map, out))
    }
}

/// A string, or the kept part of a cut string.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) | Value::Cut { kept: text, .. } => Some(text.clone()),
        _ => None,
    }
}

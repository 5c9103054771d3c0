//! DEFINE: the definitions of a connection's ids. [`Define`] reads in index, [`DefineWriter`] writes, [`Dictionary`] stores the
//! defined ids; the typed structs are the maps of each kind.

mod dictionary;
mod maps;

pub use dictionary::Dictionary;
pub use maps::{Buckets, RelaySeries, Schema, Source, SubscriberSeries, relay_series_map};

use crate::error::{ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::{BODY_BYTES_MAX, HEADER_BYTES, VALUES_PER_FRAME};
use crate::map_kind::MapKind;
use crate::value::{self, Budget, Cell, Map, MapRef, Value};

/// The kind of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DefineKind {
    /// A series of NUMBERS and HISTOGRAMS.
    Series = 1,
    /// The columns of EVENTS.
    Schema = 2,
    /// The origin of rows.
    Source = 3,
}

impl DefineKind {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Series,
            2 => Self::Schema,
            3 => Self::Source,
            _ => return None,
        })
    }

    /// The kind of its map.
    fn map(self) -> MapKind {
        match self {
            Self::Series => MapKind::Series,
            Self::Schema => MapKind::Schema,
            Self::Source => MapKind::Source,
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Schema => "schema",
            Self::Source => "source",
        }
    }
}

/// A checked DEFINE body.
#[derive(Clone, Copy, Debug)]
pub struct Define<'a> {
    /// The kind of its ids.
    pub kind: DefineKind,
    entries: &'a [u8],
}

impl<'a> Define<'a> {
    /// Checks a whole body, without allocating.
    ///
    /// # Errors
    /// An unknown kind, a malformed value, an entry that is neither a map nor null.
    pub fn decode(body: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Define));
        let code = input.u8()?;
        let unknown = ErrorKind::UnknownCode {
            what: "DEFINE kind",
            code,
        };
        let kind = DefineKind::from_code(code).ok_or_else(|| input.error_at(0, unknown))?;
        let from = input.at();
        let mut budget = Budget::new();
        while input.left() > 0 {
            entry(&mut input, &mut budget, kind)?;
        }
        Ok(Self {
            kind,
            entries: &body[from..],
        })
    }

    /// The entries in order: an id and its definition, or `None` to release it.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Option<MapRef<'a>>)> + use<'a> {
        let mut input = Input::new(self.entries, Some(FrameType::Define));
        let kind = self.kind;
        // The body was checked, so the first error is its end.
        std::iter::from_fn(move || entry(&mut input, &mut Budget::new(), kind).ok())
    }
}

fn entry<'a>(
    input: &mut Input<'a>,
    budget: &mut Budget,
    kind: DefineKind,
) -> Result<(u32, Option<MapRef<'a>>)> {
    let id = input.u32()?;
    let at = input.at();
    match value::check(input, budget)? {
        Cell::Null => Ok((id, None)),
        Cell::Map(map) => Ok((id, Some(map))),
        _ => {
            let kind = ErrorKind::BadValue {
                map: kind.map(),
                key: String::new(),
                expected: "a map or null",
            };
            Err(input.error_at(at, kind))
        }
    }
}

/// Writes one DEFINE frame at the end of a buffer.
#[derive(Debug)]
pub struct DefineWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    max_body: usize,
    values: usize,
}

impl<'o> DefineWriter<'o> {
    /// Starts a frame of at most `max_body` bytes of body, the receiver's `max_frame`.
    pub fn begin(out: &'o mut Vec<u8>, kind: DefineKind, max_body: u32) -> Self {
        let start = frame::begin(out, FrameType::Define);
        out.push(kind as u8);
        Self {
            out,
            start,
            max_body: max_body.min(BODY_BYTES_MAX) as usize,
            values: 0,
        }
    }

    /// Defines an id; `false` if the frame is full and the entry was not added.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if the map exceeds a limit of the format.
    pub fn define(&mut self, id: u32, map: &Map) -> Result<bool> {
        self.add(id, value::count_values(map), |out| value::encode_map(map, out))
    }

    /// Releases an id; `false` if the frame is full and the entry was not added.
    pub fn release(&mut self, id: u32) -> Result<bool> {
        self.add(id, 1, |out| Value::Null.encode(out))
    }

    fn add(
        &mut self,
        id: u32,
        values: usize,
        value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let entry = self.out.len();
        self.out.extend_from_slice(&id.to_le_bytes());
        let fits = value(self.out).map(|()| {
            let body = self.out.len() - self.start - HEADER_BYTES;
            body <= self.max_body && self.values + values <= VALUES_PER_FRAME
        });
        match fits {
            Ok(true) => self.values += values,
            _ => self.out.truncate(entry),
        }
        fits
    }

    /// Completes the frame.
    pub fn finish(self) -> Result<()> {
        frame::end(self.out, self.start, FrameType::Define)
    }
}

/// Writes one definition as a separate frame.
///
/// # Errors
/// [`ErrorKind::Unwritable`] if the map exceeds a limit of the format.
pub fn write_one(out: &mut Vec<u8>, kind: DefineKind, id: u32, map: &Map) -> Result<()> {
    frame::write(out, FrameType::Define, |out| {
        out.push(kind as u8);
        out.extend_from_slice(&id.to_le_bytes());
        value::encode_map(map, out)
    })
}

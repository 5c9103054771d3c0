//! What can be wrong with a frame, where, and whose fault it is. One enum for the crate: callers turn it into the
//! words of a GOODBYE with [`Error::goodbye_code`] and `to_string()`, tests compare it for equality.

use crate::frame_type::FrameType;
use crate::goodbye_code::GoodbyeCode;
use crate::map_kind::MapKind;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A violation of the format: the frame, the byte of its body, and what was wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: {kind}", frame.map_or("stream", FrameType::name))]
pub struct Error {
    /// The frame it was found in; `None` before a header was understood or for a value outside any frame.
    pub frame: Option<FrameType>,
    /// Byte of the body (of the value, when there is no frame). A missing or wrong key is placed at its map.
    pub offset: usize,
    /// What was wrong.
    pub kind: ErrorKind,
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes that arrived break the format: close the connection with words.
    Peer,
    /// Our own caller asked for a frame that the format cannot hold.
    Caller,
}

/// What was wrong. Each message says what was found and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The first bytes are an HTTP request: answer HTTP, not frames.
    #[error("this is an HTTP request, but this port speaks frames: use the HTTP port")]
    Http,
    /// The header announces a longer body than the receiver takes.
    #[error("body of {length} bytes, at most {limit} here")]
    FrameTooLong { length: u32, limit: u32 },
    /// A frame other than HELLO or GOODBYE came first.
    #[error("the first frame must be HELLO")]
    HelloExpected,
    /// HELLO does not begin with `DICH`.
    #[error("HELLO does not begin with \"DICH\"")]
    Magic,
    /// HELLO of another major version.
    #[error("the peer speaks version {major}.{minor}, this side 1.0: update the older of the two")]
    Version { major: u8, minor: u8 },
    /// The body ends inside a field.
    #[error("the body ends early: {needed} more bytes needed, {left} left")]
    Truncated { needed: usize, left: usize },
    /// Bytes after the last field.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// A code that this version does not have: a role, tag, column kind, DEFINE kind or bucket side.
    #[error("unknown {what} {code}")]
    UnknownCode { what: &'static str, code: u8 },
    /// A number outside its range, such as rows 0.
    #[error("{what} is {got}, allowed {min} to {max}")]
    OutOfRange {
        what: &'static str,
        got: i64,
        min: i64,
        max: i64,
    },
    /// A string is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A NaN other than `7ff8000000000000`.
    #[error("a NaN other than 7ff8000000000000")]
    NotCanonicalNan,
    /// The keys of a map are not strictly ascending by byte.
    #[error("keys of a map must be strictly ascending")]
    KeysNotAscending,
    /// Lists and maps nested deeper than [`crate::limits::VALUE_DEPTH`].
    #[error("lists and maps nested deeper than 8")]
    TooDeep,
    /// More values than [`crate::limits::VALUES_PER_FRAME`].
    #[error("more than 65536 values")]
    TooManyValues,
    /// A cut string that was not cut.
    #[error("cut string of {kept} bytes says it was {whole} long")]
    NotCut { whole: u32, kept: usize },
    /// A reference of EVENTS outside its tables.
    #[error("reference {reference} outside the tables of {strings} strings and {values} values")]
    Reference {
        reference: i16,
        strings: u16,
        values: u16,
    },
    /// The first column of EVENTS is not the time.
    #[error("column 0 is of kind {0}, must be 1: the time")]
    TimeColumn(u8),
    /// Buckets are not strictly ascending by (side, index).
    #[error("buckets must be strictly ascending by side and index")]
    BucketOrder,
    /// A bucket that counts nothing.
    #[error("a bucket with count 0")]
    EmptyBucket,
    /// The map lacks a required key.
    #[error("{map} lacks the key {key:?}")]
    MissingKey { map: MapKind, key: &'static str },
    /// A key's value is of the wrong type or not one of those allowed.
    #[error("key {key:?} of {map} must be {expected}")]
    BadValue {
        map: MapKind,
        key: String,
        expected: &'static str,
    },
    /// A key that this version does not have, in a map where ignoring it would make numbers wrong.
    #[error("unknown key {key:?} in {map}")]
    UnknownKey { map: MapKind, key: String },
    /// An operation, transform or type that this version does not have.
    #[error("unknown {what} {name:?}")]
    UnknownName { what: &'static str, name: String },
    /// DEFINE of an id that is alive.
    #[error("{what} {id} is already defined")]
    AlreadyDefined { what: &'static str, id: u32 },
    /// A frame or a null for an id that is not defined.
    #[error("{what} {id} is not defined")]
    Undefined { what: &'static str, id: u32 },
    /// An id at or above the limit of its kind.
    #[error("{what} {id} is beyond the limit of {limit}")]
    IdBeyondLimit { what: &'static str, id: u32, limit: u32 },
    /// Our caller gave more than the layout holds.
    #[error("cannot be written: {what} is {got}, at most {max}")]
    Unwritable {
        what: &'static str,
        got: usize,
        max: usize,
    },
}

impl Error {
    /// An error in a given frame and place.
    pub fn new(frame: Option<FrameType>, offset: usize, kind: ErrorKind) -> Self {
        Self { frame, offset, kind }
    }

    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self.kind {
            ErrorKind::Unwritable { .. } => Fault::Caller,
            _ => Fault::Peer,
        }
    }

    /// The code of the GOODBYE that answers this error; `None` for HTTP, which is answered in HTTP.
    pub fn goodbye_code(&self) -> Option<GoodbyeCode> {
        Some(match &self.kind {
            ErrorKind::Http => return None,
            ErrorKind::Version { .. } => GoodbyeCode::Version,
            ErrorKind::FrameTooLong { .. } | ErrorKind::IdBeyondLimit { .. } => GoodbyeCode::Limit,
            ErrorKind::MissingKey { map, .. }
            | ErrorKind::BadValue { map, .. }
            | ErrorKind::UnknownKey { map, .. }
                if *map == MapKind::Subscribe =>
            {
                GoodbyeCode::BadRequest
            }
            ErrorKind::Unwritable { .. } => GoodbyeCode::Internal,
            _ => GoodbyeCode::Malformed,
        })
    }
}

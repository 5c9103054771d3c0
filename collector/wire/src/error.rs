//! Errors of the format: the problem, its byte, and which side must change. The crate has one error type: callers convert it to a
//! GOODBYE with [`Error::goodbye_code`] and `to_string()`, tests compare it for equality.

use crate::frame_type::FrameType;
use crate::goodbye_code::GoodbyeCode;
use crate::map_kind::MapKind;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A violation of the format: the frame, the byte of its body, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: {kind}", frame.map_or("stream", FrameType::name))]
pub struct Error {
    /// The frame; `None` before a header was decoded, or for a value outside a frame.
    pub frame: Option<FrameType>,
    /// Byte of the body, or of the value if there is no frame. For a missing or wrong key, the start of its map.
    pub offset: usize,
    /// The problem.
    pub kind: ErrorKind,
}

/// Which side must change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The received bytes violate the format: close the connection with GOODBYE.
    Peer,
    /// The caller of this crate requested a frame that the format cannot represent.
    Caller,
}

/// The problem. Each message states the value found and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The first bytes are an HTTP request: respond with HTTP, not with frames.
    #[error("HTTP request on a port for frames: use the HTTP port")]
    Http,
    /// The header announces a longer body than the receiver accepts.
    #[error("body of {length} bytes exceeds the limit of {limit}")]
    FrameTooLong {
        /// Announced length of the body, in bytes.
        length: u32,
        /// The limit.
        limit: u32,
    },
    /// The first frame is not HELLO or GOODBYE.
    #[error("the first frame must be HELLO")]
    HelloExpected,
    /// HELLO does not start with `DICH`.
    #[error("HELLO does not start with \"DICH\"")]
    Magic,
    /// A HELLO of another major version.
    #[error("version {major}.{minor} of the peer is incompatible with 1.1: update the older side")]
    Version {
        /// The peer's major version.
        major: u8,
        /// The peer's minor version.
        minor: u8,
    },
    /// The body ends inside a field.
    #[error("body ends early: {needed} more bytes needed, {left} left")]
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// Bytes after the last field.
    #[error("{0} bytes after the last field")]
    Trailing(usize),
    /// An unknown code: a role, tag, column kind, DEFINE kind or bucket side.
    #[error("unknown {what} {code}")]
    UnknownCode {
        /// Name of the item.
        what: &'static str,
        /// The code.
        code: u8,
    },
    /// A number outside its range, such as rows 0.
    #[error("{what} is {got}, must be {min} to {max}")]
    OutOfRange {
        /// Name of the item.
        what: &'static str,
        /// The value found.
        got: i64,
        /// Lowest allowed value.
        min: i64,
        /// Highest allowed value.
        max: i64,
    },
    /// A string is not UTF-8.
    #[error("invalid UTF-8")]
    NotUtf8,
    /// A NaN other than `7ff8000000000000`.
    #[error("non-canonical NaN: must be 7ff8000000000000")]
    NotCanonicalNan,
    /// The keys of a map are not strictly ascending by byte.
    #[error("keys of a map must ascend strictly")]
    KeysNotAscending,
    /// Lists and maps nested deeper than [`crate::limits::VALUE_DEPTH`].
    #[error("lists and maps nested deeper than 8")]
    TooDeep,
    /// More values than [`crate::limits::VALUES_PER_FRAME`].
    #[error("more than 65536 values")]
    TooManyValues,
    /// A cut string whose stated length is not above that of the kept part.
    #[error("cut string keeps {kept} bytes of {whole}: nothing was cut")]
    NotCut {
        /// Stated length of the whole string, in bytes.
        whole: u32,
        /// Length of the kept part, in bytes.
        kept: usize,
    },
    /// A reference of EVENTS outside its tables.
    #[error("reference {reference} outside the tables of {strings} strings and {values} values")]
    Reference {
        /// The reference as sent.
        reference: i16,
        /// Number of strings of the frame.
        strings: u16,
        /// Number of values of the frame.
        values: u16,
    },
    /// The first column of EVENTS is not the time.
    #[error("column 0 has kind {0}, must be 1 (the time)")]
    TimeColumn(u8),
    /// Buckets are not strictly ascending by (side, index).
    #[error("buckets must ascend strictly by side and index")]
    BucketOrder,
    /// A bucket with count 0.
    #[error("bucket with count 0")]
    EmptyBucket,
    /// The map lacks a required key.
    #[error("{map} has no key {key:?}, which is required")]
    MissingKey {
        /// The map.
        map: MapKind,
        /// The key.
        key: &'static str,
    },
    /// A value of the wrong type or outside the allowed values.
    #[error("key {key:?} of {map} must be {expected}")]
    BadValue {
        /// The map.
        map: MapKind,
        /// The key.
        key: String,
        /// The expected value.
        expected: &'static str,
    },
    /// An unknown key in a map in which ignoring it would produce wrong numbers.
    #[error("unknown key {key:?} in {map}")]
    UnknownKey {
        /// The map.
        map: MapKind,
        /// The key.
        key: String,
    },
    /// An unknown operation, transform or type.
    #[error("unknown {what} {name:?}")]
    UnknownName {
        /// Name of the item.
        what: &'static str,
        /// The name found.
        name: String,
    },
    /// DEFINE of an id that is already defined.
    #[error("{what} {id} is already defined")]
    AlreadyDefined {
        /// Name of the item.
        what: &'static str,
        /// The id.
        id: u32,
    },
    /// A frame or a null for an id that is not defined.
    #[error("{what} {id} is not defined")]
    Undefined {
        /// Name of the item.
        what: &'static str,
        /// The id.
        id: u32,
    },
    /// An id at or above the limit of its kind.
    #[error("{what} {id} exceeds the limit: ids must be below {limit}")]
    IdBeyondLimit {
        /// Name of the item.
        what: &'static str,
        /// The id.
        id: u32,
        /// The limit.
        limit: u32,
    },
    /// The caller exceeded a limit of the format.
    #[error("cannot be encoded: {what} is {got}, at most {max}")]
    Unwritable {
        /// Name of the item.
        what: &'static str,
        /// The value found.
        got: usize,
        /// Highest allowed value.
        max: usize,
    },
}

impl Error {
    /// An error at a byte of a frame.
    pub fn new(frame: Option<FrameType>, offset: usize, kind: ErrorKind) -> Self {
        Self { frame, offset, kind }
    }

    /// Which side must change.
    pub fn fault(&self) -> Fault {
        match self.kind {
            ErrorKind::Unwritable { .. } => Fault::Caller,
            _ => Fault::Peer,
        }
    }

    /// The code of the GOODBYE for this error; `None` for an HTTP request, which gets an HTTP response.
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

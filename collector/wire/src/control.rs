//! The small frames: PING, PONG, GAP and GOODBYE.

use crate::error::{ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::goodbye_code::GoodbyeCode;
use crate::input::Input;
use crate::limits::GOODBYE_MESSAGE_BYTES;
use crate::value::{bounded, cut_at};

/// Requests a [`Pong`] with the same token. From a relay the token is the number of the flush just sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping(pub u64);

/// Confirms that every frame before the [`Ping`] with this token was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong(pub u64);

fn token(body: &[u8], frame_type: FrameType) -> Result<u64> {
    let mut input = Input::new(body, Some(frame_type));
    let token = input.u64()?;
    input.finish()?;
    Ok(token)
}

impl Ping {
    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self> {
        token(body, FrameType::Ping).map(Self)
    }

    /// Appends the frame.
    pub fn write(self, out: &mut Vec<u8>) {
        put_token(out, FrameType::Ping, self.0);
    }
}

impl Pong {
    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self> {
        token(body, FrameType::Pong).map(Self)
    }

    /// Appends the frame.
    pub fn write(self, out: &mut Vec<u8>) {
        put_token(out, FrameType::Pong, self.0);
    }
}

fn put_token(out: &mut Vec<u8>, frame_type: FrameType, token: u64) {
    out.extend_from_slice(
        &frame::Header {
            length: 8,
            frame_type,
        }
        .encode(),
    );
    out.extend_from_slice(&token.to_le_bytes());
}

/// The reason of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The subscriber was slow: its ring was full.
    Slow,
    /// The cursor or replay starts before the replay buffer.
    BeyondReplay,
    /// The collector restarted.
    CollectorRestarted,
    /// The relay had no credit left for the rows.
    RelayOverload,
    /// The relay reached its limit of rows per second.
    RateLimit,
    /// A relay disconnected with rows in socket buffers.
    RelayConnectionBroke,
    /// A row was larger than a frame.
    RowTooLarge,
    /// Nothing requested the rows from the node.
    NotSubscribed,
    /// A reason of a later minor version.
    Other(u8),
}

impl GapReason {
    /// The reason of a code.
    pub fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Slow,
            2 => Self::BeyondReplay,
            3 => Self::CollectorRestarted,
            4 => Self::RelayOverload,
            5 => Self::RateLimit,
            6 => Self::RelayConnectionBroke,
            7 => Self::RowTooLarge,
            8 => Self::NotSubscribed,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Slow => 1,
            Self::BeyondReplay => 2,
            Self::CollectorRestarted => 3,
            Self::RelayOverload => 4,
            Self::RateLimit => 5,
            Self::RelayConnectionBroke => 6,
            Self::RowTooLarge => 7,
            Self::NotSubscribed => 8,
            Self::Other(code) => code,
        }
    }
}

/// A counted loss in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The schema whose rows are missing; 0 for all.
    pub schema: u32,
    /// The reason.
    pub reason: GapReason,
    /// Number of rows; `None` if unknown.
    pub lost: Option<u64>,
    /// Start and end of the time of the rows, unix ns. Of [`GapReason::NotSubscribed`], and of no other reason.
    pub time: Option<(i64, i64)>,
}

const LOST_UNKNOWN: u64 = u64::MAX;

impl Gap {
    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Gap));
        let schema = input.u32()?;
        let reason = GapReason::from_code(input.u8()?);
        let lost = input.u64()?;
        let time = match reason {
            GapReason::NotSubscribed => Some((input.i64()?, input.i64()?)),
            _ => None,
        };
        input.finish()?;
        Ok(Self {
            schema,
            reason,
            lost: (lost != LOST_UNKNOWN).then_some(lost),
            time,
        })
    }

    /// Appends the frame. A gap of [`GapReason::NotSubscribed`] without a time has an empty one.
    pub fn write(self, out: &mut Vec<u8>) {
        let time = match self.reason {
            GapReason::NotSubscribed => Some(self.time.unwrap_or_default()),
            _ => None,
        };
        out.extend_from_slice(
            &frame::Header {
                length: if time.is_some() { 29 } else { 13 },
                frame_type: FrameType::Gap,
            }
            .encode(),
        );
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.push(self.reason.code());
        out.extend_from_slice(&self.lost.unwrap_or(LOST_UNKNOWN).to_le_bytes());
        if let Some((start, end)) = time {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
    }
}

/// `retry_ms` of a GOODBYE: the peer uses its own backoff.
pub const RETRY_DEFAULT_BACKOFF: u32 = 0;
/// `retry_ms` of a GOODBYE: do not reconnect.
pub const RETRY_NEVER: u32 = u32::MAX;

/// The last frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The reason.
    pub code: GoodbyeCode,
    /// Delay before reconnecting, in milliseconds; see [`RETRY_DEFAULT_BACKOFF`] and [`RETRY_NEVER`].
    pub retry_ms: u32,
    /// Human-readable reason and remedy; at most 1,024 bytes.
    pub message: String,
}

impl Goodbye {
    /// A GOODBYE whose message is cut to 1,024 bytes.
    pub fn new(code: GoodbyeCode, retry_ms: u32, message: &str) -> Self {
        Self {
            code,
            retry_ms,
            message: cut_at(message, GOODBYE_MESSAGE_BYTES).to_owned(),
        }
    }

    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Goodbye));
        let code = GoodbyeCode::from_code(input.u16()?);
        let retry_ms = input.u32()?;
        let len = input.left();
        if len > GOODBYE_MESSAGE_BYTES {
            let max = GOODBYE_MESSAGE_BYTES as i64;
            return Err(input.error(ErrorKind::OutOfRange {
                what: "bytes of message",
                got: len as i64,
                min: 0,
                max,
            }));
        }
        let message = input.str(len)?.to_owned();
        Ok(Self {
            code,
            retry_ms,
            message,
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if the message is longer than 1,024 bytes.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        frame::write(out, FrameType::Goodbye, |out| {
            bounded("message", self.message.len(), GOODBYE_MESSAGE_BYTES)?;
            out.extend_from_slice(&self.code.code().to_le_bytes());
            out.extend_from_slice(&self.retry_ms.to_le_bytes());
            out.extend_from_slice(self.message.as_bytes());
            Ok(())
        })
    }
}

//! HELLO: role, version and fields of a peer. [`Hello`] has every received field; the typed views check the required keys of a role
//! and ignore unknown keys, which a later minor version may add.
//!
//! ```
//! use dichroic_wire::hello::SubscribeKind;
//! use dichroic_wire::{FrameReader, Hello, Subscribe, SubscriberHello};
//!
//! let hello = SubscriberHello {
//!     agent: "example/1.0".to_owned(),
//!     max_frame: 262_144,
//!     token: None,
//!     subscribe: Some(Subscribe::new(SubscribeKind::Event, vec!["phoenix.**".to_owned()])),
//! };
//! let mut bytes = Vec::new();
//! hello.to_hello().write(&mut bytes)?;
//!
//! let mut reader = FrameReader::new();
//! reader.push(&bytes);
//! let frame = reader.next()?.expect("a whole frame");
//! assert_eq!(SubscriberHello::read(&Hello::decode(frame.body)?)?, hello);
//! # Ok::<(), dichroic_wire::Error>(())
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits;
use crate::map::{Fields, put, put_some, string_list};
use crate::map_kind::MapKind;
pub use crate::subscribe::{Cursor, OnFull, Subscribe, SubscribeKind};
use crate::value::{self, Budget, Cell, Map};
use crate::variables::{self, Variables};
use std::collections::BTreeMap;

/// The first bytes of HELLO.
pub const MAGIC: [u8; 4] = *b"DICH";
/// The major version of this crate.
pub const MAJOR: u8 = 1;
/// The highest minor version of this crate.
pub const MINOR: u8 = 1;
/// The first minor version whose subscribers read MIXED frames.
pub const MINOR_OF_MIXED: u8 = 1;

/// The role of the sender of HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// The collector.
    Collector = 0,
    /// The agent in a BEAM VM.
    Relay = 1,
    /// A receiver of a stream.
    Subscriber = 2,
    /// Reserved.
    Emitter = 3,
}

impl Role {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Collector,
            1 => Self::Relay,
            2 => Self::Subscriber,
            3 => Self::Emitter,
            _ => return None,
        })
    }
}

/// A HELLO with all its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Major version, 1.
    pub major: u8,
    /// Minor version; both sides use the lower one.
    pub minor: u8,
    /// Role of the sender.
    pub role: Role,
    /// All fields, unknown ones included.
    pub fields: Map,
}

impl Hello {
    /// A HELLO of this version.
    pub fn new(role: Role, fields: Map) -> Self {
        Self {
            major: MAJOR,
            minor: MINOR,
            role,
            fields,
        }
    }

    /// Decodes a body. For another major version only the first seven bytes are read.
    ///
    /// # Errors
    /// [`ErrorKind::Magic`], [`ErrorKind::Version`], an unknown role, or fields that are not one map.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Hello));
        if input.take(MAGIC.len())? != MAGIC {
            return Err(input.error_at(0, ErrorKind::Magic));
        }
        let (major, minor, code) = (input.u8()?, input.u8()?, input.u8()?);
        if major != MAJOR {
            return Err(input.error_at(4, ErrorKind::Version { major, minor }));
        }
        let unknown = ErrorKind::UnknownCode { what: "role", code };
        let role = Role::from_code(code).ok_or_else(|| input.error_at(6, unknown))?;
        let fields = map_body(&mut input)?;
        Ok(Self {
            major,
            minor,
            role,
            fields,
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if a field exceeds a limit of the format.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        frame::write(out, FrameType::Hello, |out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&[self.major, self.minor, self.role as u8]);
            value::encode_map(&self.fields, out)
        })
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(FrameType::Hello, MapKind::Hello, &self.fields)
    }

    fn of(&self, role: Role) -> Result<Fields<'_>> {
        if self.role != role {
            let kind = ErrorKind::UnknownCode {
                what: "role here",
                code: self.role as u8,
            };
            return Err(Error::new(Some(FrameType::Hello), 6, kind));
        }
        Ok(self.fields())
    }

    /// The sender's secret, if any: required on TCP, never to be logged.
    pub fn token(&self) -> Result<Option<&str>> {
        self.fields().opt_str("token")
    }

    /// The largest body that the sender accepts, in bytes.
    pub fn max_frame(&self) -> Result<u32> {
        max_frame(self.fields())
    }
}

/// The rest of a body as one map.
pub(crate) fn map_body(input: &mut Input<'_>) -> Result<Map> {
    let at = input.at();
    let cell = value::check(input, &mut Budget::new())?;
    input.finish()?;
    match cell {
        Cell::Map(map) => Ok(map.to_map()),
        _ => {
            let kind = ErrorKind::BadValue {
                map: MapKind::Body,
                key: String::new(),
                expected: "a map",
            };
            Err(input.error_at(at, kind))
        }
    }
}

fn max_frame(fields: Fields<'_>) -> Result<u32> {
    let max_frame = fields.opt_u32("max_frame")?.unwrap_or(limits::BODY_BYTES_DEFAULT);
    match max_frame {
        limits::BODY_BYTES_BEFORE_HELLO..=limits::BODY_BYTES_MAX => Ok(max_frame),
        _ => fields.bad("max_frame", "16384 to 1048576"),
    }
}

/// How a relay was loaded into its BEAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayMode {
    /// As a dependency of the application.
    Installed,
    /// Loaded into a running node.
    Attached,
}

/// The fields of a relay's HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayHello {
    /// Program and version.
    pub agent: String,
    /// Node name. A source is identified by (node, os_pid).
    pub node: String,
    /// OS process id of the BEAM.
    pub os_pid: i64,
    /// OTP release.
    pub otp: String,
    /// Version of `telemetry`; "" if absent.
    pub telemetry: String,
    /// Native time units per second.
    pub native_per_s: i64,
    /// `erlang:time_offset()`, native units.
    pub time_offset: i64,
    /// Start of the relay's totals, unix ns; new at each boot of the BEAM or start of the relay.
    pub epoch: i64,
    /// Number of this connection within the epoch.
    pub attempt: i64,
    /// How the relay was loaded into its BEAM.
    pub mode: RelayMode,
    /// Resource attributes.
    pub resource: Map,
    /// Values of the templates in event names, if known.
    pub variables: Variables,
    /// Until when rows were sent on an earlier connection of the epoch, unix ns of the relay's clock.
    pub rows_until: Option<i64>,
    /// Largest body that the relay accepts, in bytes.
    pub max_frame: u32,
    /// Secret; required on TCP, never to be logged.
    pub token: Option<String>,
}

impl RelayHello {
    /// Reads the fields of a relay's HELLO.
    ///
    /// # Errors
    /// Another role, a missing required key, a value of the wrong type.
    pub fn read(hello: &Hello) -> Result<Self> {
        let fields = hello.of(Role::Relay)?;
        Ok(Self {
            agent: fields.str("agent")?.to_owned(),
            node: fields.str("node")?.to_owned(),
            os_pid: fields.int("os_pid")?,
            otp: fields.str("otp")?.to_owned(),
            telemetry: fields.str("telemetry")?.to_owned(),
            native_per_s: match fields.int("native_per_s")? {
                per_s @ 1.. => per_s,
                _ => return fields.bad("native_per_s", "above 0"),
            },
            time_offset: fields.int("time_offset")?,
            epoch: fields.int("epoch")?,
            attempt: fields.int("attempt")?,
            mode: match fields.str("mode")? {
                "installed" => RelayMode::Installed,
                "attached" => RelayMode::Attached,
                _ => return fields.bad("mode", "\"installed\" or \"attached\""),
            },
            resource: fields.opt_map("resource")?.cloned().unwrap_or_default(),
            variables: variables::read(&fields)?,
            rows_until: fields.opt_int("rows_until")?,
            max_frame: max_frame(fields)?,
            token: fields.opt_str("token")?.map(str::to_owned),
        })
    }

    /// The HELLO with these fields.
    pub fn to_hello(&self) -> Hello {
        let mut map = common(&self.agent, self.token.as_deref(), self.max_frame);
        put(&mut map, "node", self.node.as_str());
        put(&mut map, "os_pid", self.os_pid);
        put(&mut map, "otp", self.otp.as_str());
        put(&mut map, "telemetry", self.telemetry.as_str());
        put(&mut map, "native_per_s", self.native_per_s);
        put(&mut map, "time_offset", self.time_offset);
        put(&mut map, "epoch", self.epoch);
        put(&mut map, "attempt", self.attempt);
        let mode = match self.mode {
            RelayMode::Installed => "installed",
            RelayMode::Attached => "attached",
        };
        put(&mut map, "mode", mode);
        put_some(
            &mut map,
            "resource",
            (!self.resource.is_empty()).then(|| self.resource.clone()),
        );
        put_some(&mut map, "variables", variables::map(&self.variables));
        put_some(&mut map, "rows_until", self.rows_until);
        Hello::new(Role::Relay, map)
    }
}

fn common(agent: &str, token: Option<&str>, max_frame: u32) -> Map {
    let mut map = Map::new();
    put(&mut map, "agent", agent);
    put_some(&mut map, "token", token);
    put_some(
        &mut map,
        "max_frame",
        (max_frame != limits::BODY_BYTES_DEFAULT).then_some(max_frame),
    );
    map
}

/// The fields of the collector's HELLO. `position` and `resumed` are sent only to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorHello {
    /// Program and version.
    pub agent: String,
    /// When the collector started, unix ns.
    pub epoch: i64,
    /// Largest body that the collector accepts, in bytes.
    pub max_frame: u32,
    /// Position of the next row of the subscriber's stream.
    pub position: Option<u64>,
    /// Whether the subscriber's cursor was found.
    pub resumed: Option<bool>,
    /// To a subscriber: its patterns that match no known name, each with the nearest ones.
    pub unmatched: BTreeMap<String, Vec<String>>,
    /// To a subscriber: its patterns that match defined events only, none of which a connected sender has.
    pub without_sender: Vec<String>,
}

impl CollectorHello {
    /// Reads the fields of a collector's HELLO.
    ///
    /// # Errors
    /// Another role, a missing required key, a value of the wrong type.
    pub fn read(hello: &Hello) -> Result<Self> {
        let fields = hello.of(Role::Collector)?;
        Ok(Self {
            agent: fields.str("agent")?.to_owned(),
            epoch: fields.int("epoch")?,
            max_frame: max_frame(fields)?,
            position: fields.opt_u64("position")?,
            resumed: fields.opt_bool("resumed")?,
            unmatched: read_unmatched(fields)?,
            without_sender: match fields.opt_list("without_sender")? {
                Some(patterns) => fields.strings("without_sender", patterns)?,
                None => Vec::new(),
            },
        })
    }

    /// The HELLO with these fields.
    pub fn to_hello(&self) -> Hello {
        let mut map = Map::new();
        put(&mut map, "agent", self.agent.as_str());
        put(&mut map, "epoch", self.epoch);
        put(&mut map, "max_frame", self.max_frame);
        put_some(
            &mut map,
            "position",
            self.position.map(|position| position as i64),
        );
        put_some(&mut map, "resumed", self.resumed);
        let near = self
            .unmatched
            .iter()
            .map(|(pattern, names)| (pattern.clone(), string_list(names)));
        let unmatched: Map = near.collect();
        put_some(
            &mut map,
            "unmatched",
            (!unmatched.is_empty()).then_some(unmatched),
        );
        put_some(
            &mut map,
            "without_sender",
            (!self.without_sender.is_empty()).then(|| string_list(&self.without_sender)),
        );
        Hello::new(Role::Collector, map)
    }
}

fn read_unmatched(fields: Fields<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut unmatched = BTreeMap::new();
    for (pattern, near) in fields.opt_map("unmatched")?.into_iter().flatten() {
        match near.as_list() {
            Some(near) => unmatched.insert(pattern.clone(), fields.strings("unmatched", near)?),
            None => return fields.bad("unmatched", "lists of names"),
        };
    }
    Ok(unmatched)
}

/// The fields of a subscriber's HELLO.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberHello {
    /// Program and version.
    pub agent: String,
    /// Largest body that the subscriber accepts, in bytes.
    pub max_frame: u32,
    /// Secret; required on TCP, never to be logged.
    pub token: Option<String>,
    /// The subscription; `None` for a handshake only.
    pub subscribe: Option<Subscribe>,
}

impl SubscriberHello {
    /// Reads the fields of a subscriber's HELLO.
    ///
    /// # Errors
    /// Another role, a missing required key, a value of the wrong type. Errors inside `subscribe`, such as an unknown key, have the
    /// code of GOODBYE 10.
    pub fn read(hello: &Hello) -> Result<Self> {
        let fields = hello.of(Role::Subscriber)?;
        Ok(Self {
            agent: fields.str("agent")?.to_owned(),
            max_frame: max_frame(fields)?,
            token: fields.opt_str("token")?.map(str::to_owned),
            subscribe: fields.opt_map("subscribe")?.map(Subscribe::read).transpose()?,
        })
    }

    /// The HELLO with these fields.
    pub fn to_hello(&self) -> Hello {
        let mut map = common(&self.agent, self.token.as_deref(), self.max_frame);
        put_some(
            &mut map,
            "subscribe",
            self.subscribe.as_ref().map(Subscribe::to_map),
        );
        Hello::new(Role::Subscriber, map)
    }
}

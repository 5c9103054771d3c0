//! The subscription in a subscriber's HELLO.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::frame_type::FrameType;
use crate::limits;
use crate::map::{Fields, put, put_some, string_list};
use crate::map_kind::MapKind;
use crate::value::{Map, Value};

/// The items of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribeKind {
    /// Telemetry events.
    Event,
    /// Points of metrics.
    Metric,
    /// Log records.
    Log,
}

/// The policy of a full ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// The oldest rows are dropped.
    DropOldest,
    /// New rows are dropped.
    DropNewest,
    /// The connection is closed with GOODBYE 8.
    Disconnect,
}

/// The position of a subscriber; exact while the replay buffer contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The collector's epoch.
    pub epoch: i64,
    /// Position of the last frame.
    pub position: u64,
    /// Rows of that frame that were consumed.
    pub rows: u16,
}

/// One subscription; `None` for omitted keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Events, metrics or logs.
    pub kind: SubscribeKind,
    /// Patterns of dotted names; at least one.
    pub patterns: Vec<String>,
    /// Globs on the values of labels; all keys must match. Empty and absent are the same.
    pub where_: BTreeMap<String, Vec<String>>,
    /// Time between two points of a series, in milliseconds; only for metrics.
    pub every_ms: Option<u32>,
    /// Age of the first row, in milliseconds.
    pub replay_ms: Option<u32>,
    /// Where to resume.
    pub cursor: Option<Cursor>,
    /// Rows that the collector buffers for this subscriber.
    pub buffer: Option<u32>,
    /// The policy of a full buffer.
    pub on_full: Option<OnFull>,
    /// Share of rows, above 0 and at most 1.
    pub sample: Option<f64>,
    /// Longest time that a row waits for a fuller frame, in milliseconds; not for metrics.
    pub within_ms: Option<u32>,
}

impl Subscribe {
    /// A subscription to everything of a kind that matches one of `patterns`, with the collector's defaults otherwise.
    pub fn new(kind: SubscribeKind, patterns: Vec<String>) -> Self {
        Self {
            kind,
            patterns,
            where_: BTreeMap::new(),
            every_ms: None,
            replay_ms: None,
            cursor: None,
            buffer: None,
            on_full: None,
            sample: None,
            within_ms: None,
        }
    }

    pub(crate) fn read(map: &Map) -> Result<Self> {
        let fields = Fields::new(FrameType::Hello, MapKind::Subscribe, map);
        fields.only(&[
            "kind",
            "match",
            "where",
            "every_ms",
            "replay_ms",
            "cursor",
            "buffer",
            "on_full",
            "sample",
            "within_ms",
        ])?;
        Ok(Self {
            kind: match fields.str("kind")? {
                "event" => SubscribeKind::Event,
                "metric" => SubscribeKind::Metric,
                "log" => SubscribeKind::Log,
                _ => return fields.bad("kind", "\"event\", \"metric\" or \"log\""),
            },
            patterns: globs(fields, "match", fields.list("match")?)?,
            where_: where_(fields)?,
            every_ms: fields.opt_u32("every_ms")?,
            replay_ms: fields.opt_u32("replay_ms")?,
            cursor: fields
                .opt_list("cursor")?
                .map(|items| cursor(fields, items))
                .transpose()?,
            buffer: match fields.opt_u32("buffer")? {
                Some(rows) if !limits::SUBSCRIBE_BUFFER_ROWS.contains(&rows.into()) => {
                    return fields.bad("buffer", "64 to 1048576 rows");
                }
                rows => rows,
            },
            on_full: match fields.opt_str("on_full")? {
                None => None,
                Some("drop_oldest") => Some(OnFull::DropOldest),
                Some("drop_newest") => Some(OnFull::DropNewest),
                Some("disconnect") => Some(OnFull::Disconnect),
                Some(_) => {
                    return fields.bad("on_full", "\"drop_oldest\", \"drop_newest\" or \"disconnect\"");
                }
            },
            sample: match fields.opt_float("sample")? {
                Some(share) if !(share > 0.0 && share <= 1.0) => {
                    return fields.bad("sample", "above 0.0 and at most 1.0");
                }
                share => share,
            },
            within_ms: match fields.opt_u32("within_ms")? {
                Some(within) if within > limits::SUBSCRIBE_WITHIN_MS_MAX => {
                    return fields.bad("within_ms", "0 to 10000");
                }
                within => within,
            },
        })
    }

    pub(crate) fn to_map(&self) -> Map {
        let mut map = Map::new();
        let kind = match self.kind {
            SubscribeKind::Event => "event",
            SubscribeKind::Metric => "metric",
            SubscribeKind::Log => "log",
        };
        put(&mut map, "kind", kind);
        put(&mut map, "match", string_list(&self.patterns));
        if !self.where_.is_empty() {
            let globs = |(label, globs): (&String, &Vec<String>)| (label.clone(), string_list(globs));
            put(&mut map, "where", self.where_.iter().map(globs).collect::<Map>());
        }
        put_some(&mut map, "every_ms", self.every_ms);
        put_some(&mut map, "replay_ms", self.replay_ms);
        let cursor = |cursor: Cursor| {
            vec![
                Value::Int(cursor.epoch),
                Value::Int(cursor.position as i64),
                Value::Int(cursor.rows.into()),
            ]
        };
        put_some(&mut map, "cursor", self.cursor.map(cursor));
        put_some(&mut map, "buffer", self.buffer);
        let on_full = |policy| match policy {
            OnFull::DropOldest => "drop_oldest",
            OnFull::DropNewest => "drop_newest",
            OnFull::Disconnect => "disconnect",
        };
        put_some(&mut map, "on_full", self.on_full.map(on_full));
        put_some(&mut map, "sample", self.sample);
        put_some(&mut map, "within_ms", self.within_ms);
        map
    }
}

fn globs(fields: Fields<'_>, key: &'static str, items: &[Value]) -> Result<Vec<String>> {
    let globs = fields.strings(key, items)?;
    let fits = |glob: &String| (1..=limits::PATTERN_BYTES).contains(&glob.len());
    if globs.is_empty() || globs.len() > limits::PATTERNS || !globs.iter().all(fits) {
        return fields.bad(key, "1 to 64 patterns of 1 to 256 bytes");
    }
    Ok(globs)
}

fn where_(fields: Fields<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let Some(map) = fields.opt_map("where")? else {
        return Ok(BTreeMap::new());
    };
    if map.is_empty() || map.len() > limits::WHERE_KEYS {
        return fields.bad("where", "a map of 1 to 16 labels");
    }
    map.iter()
        .map(|(label, value)| match value.as_list() {
            Some(items) => Ok((label.clone(), globs(fields, "where", items)?)),
            None => fields.bad("where", "a map of labels to lists of patterns"),
        })
        .collect()
}

fn cursor(fields: Fields<'_>, items: &[Value]) -> Result<Cursor> {
    if let [Value::Int(epoch), Value::Int(position), Value::Int(rows)] = *items
        && let (Ok(position), Ok(rows)) = (u64::try_from(position), u16::try_from(rows))
    {
        return Ok(Cursor {
            epoch,
            position,
            rows,
        });
    }
    fields.bad("cursor", "[epoch, position, rows]")
}

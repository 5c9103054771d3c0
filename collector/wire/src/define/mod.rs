//! DEFINE: the definitions of a connection's ids. [`Define`] reads in index, [`DefineWriter`] writes, [`Dictionary`] stores the
//! defined ids; the typed structs are the maps of each kind.

use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::{BODY_BYTES_MAX, HEADER_BYTES, LABELS, VALUES_PER_FRAME};
use crate::map::{Fields, float_list, floats, put, put_some, string_list};
use crate::map_kind::MapKind;
use crate::stream_kind::{StreamKind, stream_kind};
use crate::value::{self, Budget, Cell, ListRef, Map, MapRef, Value};

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

/// The defined ids of one kind on one connection.
///
/// Memory is proportional to the highest id defined, which is below `limit`.
#[derive(Debug)]
pub struct Dictionary<T> {
    kind: DefineKind,
    limit: u32,
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Dictionary<T> {
    /// An empty dictionary for ids below `limit`.
    pub fn new(kind: DefineKind, limit: u32) -> Self {
        Self {
            kind,
            limit,
            slots: Vec::new(),
            len: 0,
        }
    }

    /// Defines an id.
    ///
    /// # Errors
    /// [`ErrorKind::IdBeyondLimit`], or [`ErrorKind::AlreadyDefined`].
    pub fn define(&mut self, id: u32, definition: T) -> Result<&mut T> {
        let what = self.kind.name();
        let error = |kind| Error::new(Some(FrameType::Define), 0, kind);
        if id >= self.limit {
            return Err(error(ErrorKind::IdBeyondLimit {
                what,
                id,
                limit: self.limit,
            }));
        }
        let index = id as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        match &mut self.slots[index] {
            Some(_) => Err(error(ErrorKind::AlreadyDefined { what, id })),
            free => {
                self.len += 1;
                Ok(free.insert(definition))
            }
        }
    }

    /// Releases an id and returns its definition.
    ///
    /// # Errors
    /// [`ErrorKind::Undefined`] if the id is not defined.
    pub fn release(&mut self, id: u32) -> Result<T> {
        let definition = self.slots.get_mut(id as usize).and_then(Option::take);
        let definition = definition.ok_or_else(|| self.undefined(FrameType::Define, id))?;
        self.len -= 1;
        Ok(definition)
    }

    /// The definition of an id that a frame uses.
    ///
    /// # Errors
    /// [`ErrorKind::Undefined`] if the id is not defined.
    pub fn get(&self, frame_type: FrameType, id: u32) -> Result<&T> {
        self.slots
            .get(id as usize)
            .and_then(Option::as_ref)
            .ok_or_else(|| self.undefined(frame_type, id))
    }

    /// The mutable form of [`get`](Self::get).
    pub fn get_mut(&mut self, frame_type: FrameType, id: u32) -> Result<&mut T> {
        let undefined = self.undefined(frame_type, id);
        self.slots
            .get_mut(id as usize)
            .and_then(Option::as_mut)
            .ok_or(undefined)
    }

    fn undefined(&self, frame_type: FrameType, id: u32) -> Error {
        Error::new(
            Some(frame_type),
            0,
            ErrorKind::Undefined {
                what: self.kind.name(),
                id,
            },
        )
    }

    /// Number of defined ids.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no id is defined.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The definitions, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(id, definition)| Some((id as u32, definition.as_ref()?)))
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(Some(FrameType::Define), 0, kind)
}

/// A series as a relay defines it, read in index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelaySeries<'a> {
    /// Key of the plan's aggregate; below 16 a term of the relay's account.
    pub key: u64,
    /// Values of the labels, in the order of the plan; at most 32.
    pub labels: ListRef<'a>,
    /// Start of the count, unix ns.
    pub start: i64,
    /// Whether it is the overflow series, which combines all series beyond the limit.
    pub overflow: bool,
    /// The description of an app metric, which is not in any plan; the map's key is `own`.
    pub app_metric: Option<MapRef<'a>>,
}

impl<'a> RelaySeries<'a> {
    /// Reads a definition.
    ///
    /// # Errors
    /// A missing required key, a value of the wrong type, too many labels.
    pub fn read(map: MapRef<'a>) -> Result<Self> {
        const MAP: MapKind = MapKind::Series;
        let bad = |key: &str, expected| {
            error(ErrorKind::BadValue {
                map: MAP,
                key: key.to_owned(),
                expected,
            })
        };
        let missing = |key| error(ErrorKind::MissingKey { map: MAP, key });
        let (mut key, mut labels, mut start, mut overflow, mut app_metric) = (None, None, None, false, None);
        for (name, cell) in map.iter() {
            match (name, cell) {
                ("key", Cell::Int(value)) => key = Some(value as u64),
                ("labels", Cell::List(list)) if list.len() <= LABELS => labels = Some(list),
                ("start", Cell::Int(value)) => start = Some(value),
                ("overflow", Cell::Bool(value)) => overflow = value,
                ("key" | "start", _) => return Err(bad(name, "an integer")),
                ("labels", _) => return Err(bad(name, "a list of at most 32 values")),
                ("own", Cell::Map(map)) => app_metric = Some(map),
                ("overflow", _) => return Err(bad(name, "true or false")),
                ("own", _) => return Err(bad(name, "a map")),
                _ => {}
            }
        }
        Ok(Self {
            key: key.ok_or_else(|| missing("key"))?,
            labels: labels.ok_or_else(|| missing("labels"))?,
            start: start.ok_or_else(|| missing("start"))?,
            overflow,
            app_metric,
        })
    }
}

/// The map of a series from a relay, for tools and tests.
pub fn relay_series_map(key: u64, labels: Vec<Value>, start: i64, overflow: bool) -> Map {
    let mut map = Map::new();
    put(&mut map, "key", key as i64);
    put(&mut map, "labels", labels);
    put(&mut map, "start", start);
    put_some(&mut map, "overflow", overflow.then_some(true));
    map
}

/// The bucket bounds of a histogram series.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// Base-2 exponential buckets of this scale.
    Scale(i64),
    /// Upper bounds, ascending, in the series' unit.
    Bounds(Vec<f64>),
}

/// A series as the collector defines it to a subscriber.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberSeries {
    /// Name of the metric.
    pub name: String,
    /// Type: counter, sum, last, exponential or buckets.
    pub metric_type: String,
    /// Id of the source.
    pub source: u32,
    /// Labels by name.
    pub labels: Map,
    /// Unit in UCUM.
    pub unit: Option<String>,
    /// Start of the count, unix ns.
    pub start: Option<i64>,
    /// Description.
    pub help: Option<String>,
    /// Bucket bounds; only for histograms.
    pub buckets: Option<Buckets>,
}

impl SubscriberSeries {
    /// Reads a definition.
    ///
    /// # Errors
    /// A missing required key, a value of the wrong type.
    pub fn read(map: &Map) -> Result<Self> {
        let fields = Fields::new(FrameType::Define, MapKind::Series, map);
        Ok(Self {
            name: fields.str("name")?.to_owned(),
            metric_type: fields.str("type")?.to_owned(),
            source: fields.u32("source")?,
            labels: fields.map("labels")?.clone(),
            unit: fields.opt_str("unit")?.map(str::to_owned),
            start: fields.opt_int("start")?,
            help: fields.opt_str("help")?.map(str::to_owned),
            buckets: match (fields.opt_int("scale")?, fields.opt_list("bounds")?) {
                (Some(scale), None) => Some(Buckets::Scale(scale)),
                (None, Some(items)) => Some(Buckets::Bounds(floats(fields, "bounds", items)?)),
                (None, None) => None,
                (Some(_), Some(_)) => return fields.bad("bounds", "absent if there is a scale"),
            },
        })
    }

    /// The map on the wire.
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        put(&mut map, "name", self.name.as_str());
        put(&mut map, "type", self.metric_type.as_str());
        put(&mut map, "source", self.source);
        put(&mut map, "labels", self.labels.clone());
        put_some(&mut map, "unit", self.unit.as_deref());
        put_some(&mut map, "start", self.start);
        put_some(&mut map, "help", self.help.as_deref());
        match &self.buckets {
            Some(Buckets::Scale(scale)) => put(&mut map, "scale", *scale),
            Some(Buckets::Bounds(bounds)) => put(&mut map, "bounds", float_list(bounds)),
            None => {}
        }
        map
    }
}

/// The columns of EVENTS: the time, then `measurements`, then `metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Dotted name.
    pub name: String,
    /// Whether rows are log records.
    pub kind: StreamKind,
    /// Name and unit of each measurement.
    pub measurements: Vec<(String, String)>,
    /// Name of each metadata column.
    pub metadata: Vec<String>,
}

impl Schema {
    /// Columns of a frame of this schema, including the time.
    pub fn columns(&self) -> usize {
        1 + self.measurements.len() + self.metadata.len()
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// A missing required key, a value of the wrong type, more than 64 columns.
    pub fn read(map: &Map) -> Result<Self> {
        let fields = Fields::new(FrameType::Define, MapKind::Schema, map);
        let measurement = |item: &Value| match item.as_list() {
            Some([Value::Str(name), Value::Str(unit)]) => Some((name.clone(), unit.clone())),
            _ => None,
        };
        let measurements: Option<_> = fields.list("measurements")?.iter().map(measurement).collect();
        let schema = Self {
            name: fields.str("name")?.to_owned(),
            kind: fields.str("kind").and_then(|_| stream_kind(fields))?,
            measurements: match measurements {
                Some(measurements) => measurements,
                None => return fields.bad("measurements", "a list of [name, unit]"),
            },
            metadata: fields.strings("metadata", fields.list("metadata")?)?,
        };
        if schema.columns() > crate::limits::EVENT_COLUMNS {
            return fields.bad("metadata", "at most 63 together with the measurements");
        }
        Ok(schema)
    }

    /// The map on the wire.
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        let pair = |(name, unit): &(String, String)| string_list(&[name.clone(), unit.clone()]);
        put(&mut map, "name", self.name.as_str());
        put(&mut map, "kind", self.kind.name());
        put(
            &mut map,
            "measurements",
            Value::List(self.measurements.iter().map(pair).collect()),
        );
        put(&mut map, "metadata", string_list(&self.metadata));
        map
    }
}

/// The origin of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name; the node name of a BEAM.
    pub name: String,
    /// Runtime, such as `beam`.
    pub runtime: String,
    /// Resource attributes; omitted if empty.
    pub resource: Map,
}

impl Source {
    /// Reads a definition.
    ///
    /// # Errors
    /// A missing required key, a value of the wrong type.
    pub fn read(map: &Map) -> Result<Self> {
        let fields = Fields::new(FrameType::Define, MapKind::Source, map);
        Ok(Self {
            name: fields.str("name")?.to_owned(),
            runtime: fields.str("runtime")?.to_owned(),
            resource: fields.opt_map("resource")?.cloned().unwrap_or_default(),
        })
    }

    /// The map on the wire.
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        put(&mut map, "name", self.name.as_str());
        put(&mut map, "runtime", self.runtime.as_str());
        put_some(
            &mut map,
            "resource",
            (!self.resource.is_empty()).then(|| self.resource.clone()),
        );
        map
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

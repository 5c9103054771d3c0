//! The maps of definitions: series, schemas and sources.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;
use crate::limits::LABELS;
use crate::map::{Fields, float_list, floats, put, put_some, string_list};
use crate::map_kind::MapKind;
use crate::stream_kind::{StreamKind, stream_kind};
use crate::value::{Cell, ListRef, Map, MapRef, Value};

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

//! Events, logs, points and gaps as JSON, one object each: the lines of `ndjson`, the data of `sse`, and `tap --format json`.
//!
//! Integers are written exactly, floats in the shortest form that reads back the same; a float that is not finite is the string
//! `"NaN"`, `"Infinity"` or `"-Infinity"`. Bytes are lower-case hex, as OTLP's JSON writes trace ids. A string that the relay cut
//! ends in `…`. Times are integers, nanoseconds since the Unix epoch.

use dichroic_model::{EventKind, EventSchema};
use dichroic_wire::StreamKind;
use dichroic_wire::define::{Schema, SubscriberSeries};
use dichroic_wire::{Bucket, Cell, CollectorHello, GapReason, Side};
use std::io::Write;

mod value;

use value::{comma, float, integer, list, map, number, owned};
pub use value::{string, value};

/// The keys of a schema, encoded once.
#[derive(Debug, Clone)]
pub struct Columns {
    log: bool,
    /// `{"type":"event","name":"…","time":`
    head: Vec<u8>,
    /// `"key":` of each column.
    measurements: Vec<Vec<u8>>,
    metadata: Vec<Vec<u8>>,
    /// `"units":{"…":"…"},` with the units of the measurements that have one; else empty.
    units: Vec<u8>,
}

impl Columns {
    fn new<'a>(
        name: &str,
        log: bool,
        measurements: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        metadata: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut head = Vec::new();
        head.extend_from_slice(if log {
            br#"{"type":"log","name":"#
        } else {
            br#"{"type":"event","name":"#
        });
        string(&mut head, name);
        head.extend_from_slice(br#","time":"#);
        let key = |name: &str| {
            let mut out = Vec::new();
            string(&mut out, name);
            out.push(b':');
            out
        };
        Columns {
            log,
            head,
            units: units(measurements.clone()),
            measurements: measurements.map(|(name, _)| key(name)).collect(),
            metadata: metadata.map(key).collect(),
        }
    }
}

fn units<'a>(measurements: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, unit) in measurements.filter(|(_, unit)| !matches!(*unit, "" | "1")) {
        out.extend_from_slice(if out.is_empty() { br#""units":{"# } else { b"," });
        string(&mut out, name);
        out.push(b':');
        string(&mut out, unit);
    }
    if !out.is_empty() {
        out.extend_from_slice(b"},");
    }
    out
}

impl From<&EventSchema> for Columns {
    fn from(schema: &EventSchema) -> Self {
        Columns::new(
            &schema.name,
            schema.kind == EventKind::Log,
            (schema.measurements.iter()).map(|(name, unit)| (name.as_str(), unit.as_str())),
            schema.metadata.iter().map(String::as_str),
        )
    }
}

impl From<&Schema> for Columns {
    fn from(schema: &Schema) -> Self {
        Columns::new(
            &schema.name,
            schema.kind == StreamKind::Log,
            (schema.measurements.iter()).map(|(name, unit)| (name.as_str(), unit.as_str())),
            schema.metadata.iter().map(String::as_str),
        )
    }
}

/// Writes a row: `{"type":"event","name":…,"time":…,"source":…,"measurements":{…},"metadata":{…}}`. Null measurements are
/// omitted, null metadata is not. `"units":{…}` before `metadata` has the units of the measurements, if they have any. A log has its columns (severity, body, …) as top-level keys instead. `cell` returns the cell of each
/// column.
pub fn row<'a>(out: &mut Vec<u8>, columns: &Columns, source: &str, cell: impl Fn(usize) -> Cell<'a>) {
    out.extend_from_slice(&columns.head);
    value(out, cell(0));
    out.extend_from_slice(br#","source":"#);
    string(out, source);
    if columns.log {
        for (at, key) in columns.metadata.iter().enumerate() {
            out.push(b',');
            out.extend_from_slice(key);
            value(out, cell(1 + columns.measurements.len() + at));
        }
        out.push(b'}');
        return;
    }
    out.extend_from_slice(br#","measurements":{"#);
    let mut first = true;
    for (at, key) in columns.measurements.iter().enumerate() {
        let cell = cell(1 + at);
        if cell != Cell::Null {
            comma(out, &mut first);
            out.extend_from_slice(key);
            value(out, cell);
        }
    }
    out.extend_from_slice(b"},");
    out.extend_from_slice(&columns.units);
    out.extend_from_slice(br#""metadata":{"#);
    let mut first = true;
    for (at, key) in columns.metadata.iter().enumerate() {
        comma(out, &mut first);
        out.extend_from_slice(key);
        value(out, cell(1 + columns.measurements.len() + at));
    }
    out.extend_from_slice(b"}}");
}

/// The value of a point.
#[derive(Debug, Clone, Copy)]
pub enum PointValue<'a> {
    /// `int + float`
    Number(i64, f64),
    /// The cumulative state of a histogram.
    Histogram {
        /// Of its buckets.
        bounds: BucketBounds<'a>,
        /// `int + float`; NaN if the sender reports no sum.
        sum: (i64, f64),
        /// Ascending by side and index, without empty buckets.
        buckets: &'a [Bucket],
    },
}

/// The parts of a point that are equal for all points of a series, encoded once.
#[derive(Debug, Clone)]
pub struct PointText {
    /// `{"type":"point","name":…,"kind":…,"time":`, then `,"start":…` to the labels.
    text: Box<[u8]>,
    /// Where the time goes.
    time_at: usize,
}

/// The buckets of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BucketBounds<'a> {
    /// Upper bounds.
    Explicit(&'a [f64]),
    /// Base-2 exponential, of this scale.
    Scale(i64),
}

impl PointText {
    /// Of a series of this source.
    pub fn new(series: &SubscriberSeries, source: &str) -> Self {
        let mut out = Vec::new();
        out.extend_from_slice(br#"{"type":"point","name":"#);
        string(&mut out, &series.name);
        out.extend_from_slice(br#","kind":"#);
        string(&mut out, &series.metric_type);
        out.extend_from_slice(br#","time":"#);
        let time_at = out.len();
        out.extend_from_slice(br#","start":"#);
        match series.start {
            Some(start) => integer(&mut out, start),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","source":"#);
        string(&mut out, source);
        out.extend_from_slice(br#","unit":"#);
        string(&mut out, series.unit.as_deref().unwrap_or(""));
        out.extend_from_slice(br#","labels":"#);
        map(
            &mut out,
            series.labels.iter().map(|(key, value)| (key.as_str(), value)),
            owned,
        );
        PointText {
            text: out.into(),
            time_at,
        }
    }

    /// Its memory.
    pub fn bytes(&self) -> usize {
        self.text.len() + 16
    }
}

/// Writes a point: `{"type":"point","name":…,"kind":…,"time":…,"start":…,"source":…,"unit":…,"labels":{…},"value":…}`.
///
/// Instead of `value` a histogram has `count`, `sum` (null if the sender reports none) and its buckets. With explicit bounds these
/// are `bounds` and `counts` (not cumulative; one more, for values above all bounds), otherwise `scale`, `zero`, and `positive` and
/// `negative` as lists of [index, count], where bucket i is (b^i, b^(i+1)], b = 2^(2^-scale).
pub fn point(out: &mut Vec<u8>, text: &PointText, time: i64, point: PointValue<'_>) {
    let (head, rest) = text.text.split_at(text.time_at);
    out.extend_from_slice(head);
    integer(out, time);
    out.extend_from_slice(rest);
    match point {
        PointValue::Number(int, part) => {
            out.extend_from_slice(br#","value":"#);
            number(out, int, part);
        }
        PointValue::Histogram { bounds, sum, buckets } => histogram(out, bounds, sum, buckets),
    }
    out.push(b'}');
}

fn histogram(out: &mut Vec<u8>, bounds: BucketBounds<'_>, sum: (i64, f64), buckets: &[Bucket]) {
    let count = buckets.iter().fold(0u64, |n, b| n.saturating_add(b.count));
    let _ = write!(out, r#","count":{count},"sum":"#);
    if sum.1.is_nan() {
        out.extend_from_slice(b"null");
    } else {
        number(out, sum.0, sum.1);
    }
    match bounds {
        BucketBounds::Explicit(bounds) => {
            out.extend_from_slice(br#","bounds":["#);
            list(out, bounds.iter(), |out, bound| float(out, *bound));
            out.extend_from_slice(br#"],"counts":["#);
            let at = |index: usize| {
                buckets
                    .iter()
                    .find(|b| b.index as usize == index)
                    .map_or(0, |b| b.count)
            };
            list(out, 0..=bounds.len(), |out, index| {
                let _ = write!(out, "{}", at(index));
            });
            out.push(b']');
        }
        BucketBounds::Scale(scale) => {
            let zero: u64 = buckets
                .iter()
                .filter(|b| b.side == Side::Zero)
                .map(|b| b.count)
                .sum();
            let _ = write!(out, r#","scale":{scale},"zero":{zero}"#);
            for (key, side) in [("positive", Side::Positive), ("negative", Side::Negative)] {
                let _ = write!(out, r#","{key}":["#);
                list(out, buckets.iter().filter(|b| b.side == side), |out, b| {
                    let _ = write!(out, "[{},{}]", b.index, b.count);
                });
                out.push(b']');
            }
        }
    }
}

/// Writes a counted loss: `{"type":"gap","reason":…,"lost":…,"name":…}`; `lost` is null when unknown, `name` when the gap covers all
/// schemas. With a time also `"start":…,"end":…`.
pub fn gap(
    out: &mut Vec<u8>,
    name: Option<&str>,
    reason: GapReason,
    lost: Option<u64>,
    time: Option<(i64, i64)>,
) {
    out.extend_from_slice(br#"{"type":"gap","reason":"#);
    match reason {
        GapReason::Slow => string(out, "slow"),
        GapReason::BeyondReplay => string(out, "beyond replay"),
        GapReason::CollectorRestarted => string(out, "collector restarted"),
        GapReason::RelayOverload => string(out, "relay overload"),
        GapReason::RateLimit => string(out, "rate limit"),
        GapReason::RelayConnectionBroke => string(out, "relay connection broke"),
        GapReason::RowTooLarge => string(out, "row too large"),
        GapReason::NotSubscribed => string(out, "not subscribed"),
        GapReason::Other(code) => string(out, &format!("reason {code}")),
    }
    out.extend_from_slice(br#","lost":"#);
    match lost {
        Some(lost) => drop(write!(out, "{lost}")),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","name":"#);
    match name {
        Some(name) => string(out, name),
        None => out.extend_from_slice(b"null"),
    }
    if let Some((start, end)) = time {
        let _ = write!(out, r#","start":{start},"end":{end}"#);
    }
    out.push(b'}');
}

/// Writes a HELLO: `{"type":"hello","agent":…,"epoch":…,"position":…,"resumed":…}`; with patterns that match no known name also
/// `"unmatched":{pattern:[nearest name,…]}`, with patterns of events that no connected sender has `"without_sender":[pattern,…]`.
pub fn hello(out: &mut Vec<u8>, hello: &CollectorHello) {
    out.extend_from_slice(br#"{"type":"hello","agent":"#);
    string(out, &hello.agent);
    let _ = write!(out, r#","epoch":{},"position":"#, hello.epoch);
    match hello.position {
        Some(position) => drop(write!(out, "{position}")),
        None => out.extend_from_slice(b"null"),
    }
    let _ = write!(out, r#","resumed":{}"#, hello.resumed.unwrap_or(false));
    if !hello.unmatched.is_empty() {
        out.extend_from_slice(br#","unmatched":{"#);
        let mut first = true;
        for (pattern, near) in &hello.unmatched {
            comma(out, &mut first);
            string(out, pattern);
            out.extend_from_slice(b":[");
            list(out, near.iter(), |out, name| string(out, name));
            out.push(b']');
        }
        out.push(b'}');
    }
    if !hello.without_sender.is_empty() {
        out.extend_from_slice(br#","without_sender":["#);
        list(out, hello.without_sender.iter(), |out, pattern| {
            string(out, pattern)
        });
        out.push(b']');
    }
    out.push(b'}');
}

/// Writes a GOODBYE: `{"type":"goodbye","code":…,"message":…}`.
pub fn goodbye(out: &mut Vec<u8>, code: u16, message: &str) {
    let _ = write!(out, r#"{{"type":"goodbye","code":{code},"message":"#);
    string(out, message);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_wire::Map;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_keep_their_type_and_every_digit() {
        let check = |cell: Cell<'_>, expected: &str| assert_eq!(written(|out| value(out, cell)), expected);
        check(Cell::Null, "null");
        check(Cell::Bool(true), "true");
        check(Cell::Int(i64::MIN), "-9223372036854775808");
        check(Cell::Float(1.0), "1.0");
        check(Cell::Float(-0.0), "-0.0");
        check(Cell::Float(0.1), "0.1");
        check(Cell::Float(1e300), "1e+300");
        check(Cell::Float(f64::NAN), r#""NaN""#);
        check(Cell::Float(f64::NEG_INFINITY), r#""-Infinity""#);
        check(
            Cell::Str("a\"b\\c\n\r\t\u{1}\u{7f}ключ\u{2028}€"),
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001\u{7f}ключ\\u2028€\"",
        );
        check(Cell::Bytes(&[0, 255]), r#""00ff""#);
        let cut = Cell::CutStr {
            whole_len: 9,
            kept: "long\"",
        };
        check(cut, "\"long\\\"…\"");
    }

    #[test]
    fn any_string_reads_back_as_it_was() {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |t| t.as_nanos() as u64 | 1);
        println!("seed {seed}");
        let mut random = seed;
        for _ in 0..5_000 {
            let mut text = String::new();
            for _ in 0..random % 12 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let range = [0x80, 0x2100, 0x11_0000][(random >> 40) as usize % 3];
                text.extend(char::from_u32((random % range) as u32));
            }
            random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let json = written(|out| string(out, &text));
            let back: String =
                serde_json::from_str(&json).unwrap_or_else(|e| panic!("seed {seed}: {e}: {json}"));
            assert_eq!(back, text, "seed {seed}");
            assert!(!json.contains('\n'), "seed {seed}");
        }
    }

    fn series() -> SubscriberSeries {
        SubscriberSeries {
            name: "http.duration".into(),
            metric_type: "histogram".into(),
            source: 1,
            labels: Map::from([("method".into(), "GET".into()), ("status".into(), 200i64.into())]),
            unit: Some("s".into()),
            start: Some(5),
            help: None,
            buckets: None,
        }
    }

    #[test]
    fn points_are_objects() {
        let head = r#"{"type":"point","name":"http.duration","kind":"histogram","time":9,"start":5,"source":"shop@a","unit":"s","labels":{"method":"GET","status":200},"#;
        let text = PointText::new(&series(), "shop@a");
        let check = |value: PointValue<'_>, rest: &str| {
            let json = written(|out| point(out, &text, 9, value));
            assert_eq!(json, format!("{head}{rest}"));
            serde_json::from_str::<serde_json::Value>(&json).unwrap();
        };
        check(
            PointValue::Number(i64::MAX, 0.0),
            r#""value":9223372036854775807}"#,
        );
        check(PointValue::Number(0, 0.25), r#""value":0.25}"#);
        check(PointValue::Number(2, 0.25), r#""value":2.25}"#);
        let bucket = |index, side, count| Bucket { index, side, count };
        let explicit = [bucket(0, Side::Positive, 3), bucket(2, Side::Positive, 2)];
        let value = PointValue::Histogram {
            bounds: BucketBounds::Explicit(&[0.1, 1.0]),
            sum: (0, 4.5),
            buckets: &explicit,
        };
        check(
            value,
            r#""count":5,"sum":4.5,"bounds":[0.1,1.0],"counts":[3,0,2]}"#,
        );
        let exponential = [
            bucket(0, Side::Zero, 2),
            bucket(-79, Side::Positive, 3),
            bucket(-3, Side::Negative, 4),
        ];
        let value = PointValue::Histogram {
            bounds: BucketBounds::Scale(3),
            sum: (0, f64::NAN),
            buckets: &exponential,
        };
        check(
            value,
            r#""count":9,"sum":null,"scale":3,"zero":2,"positive":[[-79,3]],"negative":[[-3,4]]}"#,
        );
    }

    #[test]
    fn units_of_measurements_are_an_object_and_dimensionless_ones_are_omitted() {
        let written = |pairs: &[(&str, &str)]| String::from_utf8(units(pairs.iter().copied())).unwrap();
        assert_eq!(written(&[("n", "1"), ("count", "")]), "");
        assert_eq!(
            written(&[("duration", "s"), ("n", "1"), ("size", "By")]),
            r#""units":{"duration":"s","size":"By"},"#
        );
    }

    #[test]
    fn gaps_and_goodbyes_are_objects() {
        assert_eq!(
            written(|out| gap(out, None, GapReason::CollectorRestarted, None, None)),
            r#"{"type":"gap","reason":"collector restarted","lost":null,"name":null}"#
        );
        assert_eq!(
            written(|out| gap(out, Some("a"), GapReason::NotSubscribed, None, Some((1, 2)))),
            r#"{"type":"gap","reason":"not subscribed","lost":null,"name":"a","start":1,"end":2}"#
        );
        assert_eq!(
            written(|out| goodbye(out, 8, "too slow")),
            r#"{"type":"goodbye","code":8,"message":"too slow"}"#
        );
    }
}

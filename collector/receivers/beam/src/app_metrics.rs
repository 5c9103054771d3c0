//! App metrics: metrics that an application defined itself, through the relay. The definition of a series describes its metric.
//!
//! The relay aggregates them like those of the plan and sends name, labels and unit with each series. Units are names of
//! `Telemetry.Metrics`; exported values are in base units.

use crate::plan::{Measure, grid};
use dichroic_model::attributes::cut;
use dichroic_model::{Factor, MetricKind, units};
use dichroic_wire::limits::{APP_METRIC_HELP_BYTES, APP_METRIC_UNIT_BYTES, BOUNDS, LABELS};
use dichroic_wire::value::{Cell, ListRef, MapRef};

/// App metrics of one relay.
pub(crate) const APP_METRICS: usize = 1_000;
/// Longest name of a metric or label, in bytes.
const NAME_BYTES: usize = 255;

/// Reads the map `own` of a definition. The error is the message for the relay.
pub(crate) fn measure(key: u64, map: MapRef<'_>, per_s: u64) -> Result<Measure, String> {
    let text = |name: &str| match map.get(name) {
        Some(Cell::Str(text)) => Ok(text.to_owned()),
        Some(_) => Err(format!("app metric: {name} must be a string")),
        None => Ok(String::new()),
    };
    let name = text("name")?;
    if name.is_empty() || name.len() > NAME_BYTES {
        return Err(format!("app metric: name must have 1 to {NAME_BYTES} bytes"));
    }
    let (unit, factor) = unit(cut(&text("unit")?, APP_METRIC_UNIT_BYTES), per_s);
    let bounds = match map.get("bounds") {
        Some(Cell::List(list)) => Some(bounds(list, factor)?),
        Some(_) => return Err("app metric: bounds must be a list".to_owned()),
        None => None,
    };
    let monotonic = !matches!(map.get("monotonic"), Some(Cell::Bool(false)));
    let kind = match text("type")?.as_str() {
        "counter" => MetricKind::COUNTER,
        "sum" => MetricKind::Sum { monotonic },
        "last" => MetricKind::Gauge,
        "buckets" if bounds.is_some() => MetricKind::Histogram,
        "exponential" => MetricKind::ExponentialHistogram,
        other => {
            let shown = cut(other, NAME_BYTES);
            return Err(format!(
                "app metric: unknown type {shown:?}, or its bounds are missing"
            ));
        }
    };
    Ok(Measure {
        key,
        verbatim: false,
        help: cut(&text("help")?, APP_METRIC_HELP_BYTES).to_owned(),
        grid: match kind {
            MetricKind::ExponentialHistogram => Some(exponential(map)?),
            _ => None,
        },
        kind,
        unit,
        factor,
        labels: labels(map)?,
        fixed: Vec::new(),
        bounds: bounds.filter(|_| kind == MetricKind::Histogram).map(Into::into),
        name,
    })
}

/// The exported unit, and the factor for raw values.
fn unit(name: &str, per_s: u64) -> (String, Factor) {
    let (unit, factor) = match name {
        "" | "unit" => ("", Some(Factor::ONE)),
        "native" => ("s", units::native(per_s, "s")),
        name => (units::base(name), units::conversion(name, units::base(name))),
    };
    (unit.to_owned(), factor.unwrap_or(Factor::ONE))
}

fn labels(map: MapRef<'_>) -> Result<Vec<String>, String> {
    let invalid = || format!("app metric: labels must be a list of at most {LABELS} names");
    let Some(Cell::List(list)) = map.get("labels") else {
        return Err(invalid());
    };
    let names = list.iter().map(|cell| match cell {
        Cell::Str(name) if (1..=NAME_BYTES).contains(&name.len()) => Ok(name.to_owned()),
        _ => Err(invalid()),
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.len() > LABELS {
        return Err(invalid());
    }
    Ok(names)
}

fn bounds(list: ListRef<'_>, factor: Factor) -> Result<Vec<f64>, String> {
    let numbers = list.iter().map(|cell| match cell {
        Cell::Float(bound) if bound.is_finite() => Some(factor.apply(bound)),
        _ => None,
    });
    let bounds = numbers.collect::<Option<Vec<f64>>>().unwrap_or_default();
    if bounds.is_empty() || bounds.len() > BOUNDS || !bounds.is_sorted_by(|a, b| a < b) {
        return Err(format!(
            "app metric: bounds must be 1 to {BOUNDS} ascending floats"
        ));
    }
    Ok(bounds)
}

fn exponential(map: MapRef<'_>) -> Result<(i32, i16, i16), String> {
    let wrong = "app metric: exponential requires scale -4 to 4 and octaves [lo, hi]";
    let (Some(Cell::Int(scale)), Some(Cell::List(octaves))) = (map.get("scale"), map.get("octaves")) else {
        return Err(wrong.to_owned());
    };
    let octaves: Vec<_> = octaves.iter().collect();
    match octaves.as_slice() {
        [Cell::Int(lo), Cell::Int(hi)]
            if (-4..=4).contains(&scale) && -1022 <= *lo && lo < hi && *hi <= 1023 =>
        {
            Ok(grid(scale, (*lo, *hi)))
        }
        _ => Err(wrong.to_owned()),
    }
}

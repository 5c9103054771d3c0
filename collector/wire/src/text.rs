//! Frames as text, for golden files and debugging: one line per frame, then an indented line per row, entry or field. Tokens are not
//! shown. The text is not part of the format.

use std::fmt::{self, Display, Write};

use crate::control::{Gap, GapReason, Goodbye, Ping, Pong};
use crate::define::Define;
use crate::error::Result;
use crate::events::{Events, EventsScratch};
use crate::frame::RawFrame;
use crate::frame_type::FrameType;
use crate::goodbye_code::GoodbyeCode;
use crate::hello::{Hello, Role, map_body};
use crate::histograms::{Bucket, Histograms, Side};
use crate::input::Input;
use crate::mixed::{Mixed, MixedScratch};
use crate::numbers::Numbers;
use crate::value::{Cell, Value};

/// The text of a frame; every line ends with a line feed.
///
/// # Errors
/// Those of decoding it.
pub fn render(frame: RawFrame<'_>) -> Result<String> {
    let mut out = String::new();
    let body = frame.body;
    match frame.frame_type {
        FrameType::Hello => hello(&mut out, &Hello::decode(body)?),
        FrameType::Goodbye => line(&mut out, Show(&Goodbye::decode(body)?)),
        FrameType::Ping => line(&mut out, format_args!("PING token={}", Ping::decode(body)?.0)),
        FrameType::Pong => line(&mut out, format_args!("PONG token={}", Pong::decode(body)?.0)),
        FrameType::Plan => plan(&mut out, body)?,
        FrameType::Define => define(&mut out, Define::decode(body)?),
        FrameType::Numbers => numbers(&mut out, Numbers::decode(body)?),
        FrameType::Histograms => histograms(&mut out, Histograms::decode(body)?),
        FrameType::Events => events(&mut out, &Events::decode(body, &mut EventsScratch::default())?),
        FrameType::Mixed => mixed(&mut out, &Mixed::decode(body, &mut MixedScratch::default())?),
        FrameType::Gap => line(&mut out, Show(&Gap::decode(body)?)),
        FrameType::Unknown(code) => line(&mut out, format_args!("UNKNOWN type={code} bytes={}", body.len())),
    }
    Ok(out)
}

fn line(out: &mut String, content: impl Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{content}");
}

fn hello(out: &mut String, hello: &Hello) {
    let role = match hello.role {
        Role::Collector => "collector",
        Role::Relay => "relay",
        Role::Subscriber => "subscriber",
        Role::Emitter => "emitter",
    };
    line(
        out,
        format_args!("HELLO version={}.{} role={role}", hello.major, hello.minor),
    );
    for (key, value) in &hello.fields {
        match key.as_str() {
            "token" => line(out, "  token (not shown)"),
            _ => line(out, format_args!("  {key} {}", Show(value))),
        }
    }
}

fn plan(out: &mut String, body: &[u8]) -> Result<()> {
    let map = map_body(&mut Input::new(body, Some(FrameType::Plan)))?;
    line(out, "PLAN");
    for (key, value) in &map {
        match value {
            Value::List(entries) if !entries.is_empty() => {
                entries
                    .iter()
                    .for_each(|entry| line(out, format_args!("  {key} {}", Show(entry))));
            }
            _ => line(out, format_args!("  {key} {}", Show(value))),
        }
    }
    Ok(())
}

fn define(out: &mut String, define: Define<'_>) {
    line(out, format_args!("DEFINE kind={}", define.kind.name()));
    for (id, map) in define.entries() {
        match map {
            Some(map) => line(out, format_args!("  {id} {}", Show(&Cell::Map(map)))),
            None => line(out, format_args!("  {id} released")),
        }
    }
}

fn numbers(out: &mut String, numbers: Numbers<'_>) {
    line(out, format_args!("NUMBERS time={}", numbers.time));
    for row in numbers.rows() {
        line(
            out,
            format_args!("  series={} {} {:?}", row.series, row.int, row.float),
        );
    }
}

fn histograms(out: &mut String, histograms: Histograms<'_>) {
    line(out, format_args!("HISTOGRAMS time={}", histograms.time));
    for row in histograms.rows() {
        let mut text = format!("  series={} sum={} {:?}", row.series, row.sum_int, row.sum_float);
        for Bucket { index, side, count } in row.buckets() {
            let _ = match side {
                Side::Zero => write!(text, " zero={count}"),
                Side::Positive => write!(text, " positive[{index}]={count}"),
                Side::Negative => write!(text, " negative[{index}]={count}"),
            };
        }
        line(out, text);
    }
}

fn events(out: &mut String, events: &Events<'_>) {
    let header = events.header();
    let (schema, source, position) = (header.schema, header.source, header.position);
    line(
        out,
        format_args!("EVENTS schema={schema} source={source} position={position}"),
    );
    for row in 0..events.rows() {
        let mut text = String::from(" ");
        for column in 0..events.columns() {
            let _ = write!(text, " {}", Show(&events.cell(row, column)));
        }
        line(out, text);
    }
}

fn mixed(out: &mut String, mixed: &Mixed<'_>) {
    line(out, format_args!("MIXED position={}", mixed.position()));
    for row in 0..mixed.rows() {
        let context = mixed.context(row);
        let mut text = format!("  schema={} source={}:", context.schema, context.source);
        for column in 0..mixed.columns(row) {
            let _ = write!(text, " {}", Show(&mixed.cell(row, column)));
        }
        line(out, text);
    }
}

/// The text of a type, only in this module.
struct Show<'a, T>(&'a T);

impl Display for Show<'_, Gap> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason: &dyn Display = match &self.0.reason {
            GapReason::Slow => &"slow",
            GapReason::BeyondReplay => &"beyond-replay",
            GapReason::CollectorRestarted => &"collector-restarted",
            GapReason::RelayOverload => &"relay-overload",
            GapReason::RateLimit => &"rate-limit",
            GapReason::RelayConnectionBroke => &"relay-connection-broke",
            GapReason::RowTooLarge => &"row-too-large",
            GapReason::NotSubscribed => &"not-subscribed",
            GapReason::Other(code) => code,
        };
        write!(out, "GAP schema={} reason={reason} lost=", self.0.schema)?;
        match self.0.lost {
            Some(lost) => write!(out, "{lost}"),
            None => out.write_str("not-known"),
        }?;
        match self.0.time {
            Some((start, end)) => write!(out, " start={start} end={end}"),
            None => Ok(()),
        }
    }
}

impl Display for Show<'_, Goodbye> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code: &dyn Display = match &self.0.code {
            GoodbyeCode::Version => &"version",
            GoodbyeCode::Unauthorized => &"unauthorized",
            GoodbyeCode::Malformed => &"malformed",
            GoodbyeCode::Limit => &"limit",
            GoodbyeCode::Timeout => &"timeout",
            GoodbyeCode::Superseded => &"superseded",
            GoodbyeCode::Shutdown => &"shutdown",
            GoodbyeCode::Slow => &"slow",
            GoodbyeCode::Detach => &"detach",
            GoodbyeCode::BadRequest => &"bad-request",
            GoodbyeCode::Internal => &"internal",
            GoodbyeCode::Other(code) => code,
        };
        write!(
            out,
            "GOODBYE code={code} retry_ms={} {:?}",
            self.0.retry_ms, self.0.message
        )
    }
}

impl Display for Show<'_, Cell<'_>> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Cell::Null => out.write_str("null"),
            Cell::Bool(value) => write!(out, "{value}"),
            Cell::Int(value) => write!(out, "{value}"),
            Cell::Float(value) => write!(out, "{value:?}"),
            Cell::Str(value) => write!(out, "{value:?}"),
            Cell::CutStr { whole_len, kept } => write!(out, "{kept:?}…{whole_len}"),
            Cell::Bytes(bytes) => {
                out.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
            Cell::List(list) => {
                let items = list.iter().map(|item| Show(&item).to_string());
                write!(out, "[{}]", items.collect::<Vec<_>>().join(", "))
            }
            Cell::Map(map) => {
                let entries = map
                    .iter()
                    .map(|(key, value)| format!("{key:?}: {}", Show(&value)));
                write!(out, "{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Display for Show<'_, Value> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[Value]| {
            items
                .iter()
                .map(|item| Show(item).to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self.0 {
            Value::Null => Show(&Cell::Null).fmt(out),
            Value::Bool(value) => Show(&Cell::Bool(*value)).fmt(out),
            Value::Int(value) => Show(&Cell::Int(*value)).fmt(out),
            Value::Float(value) => Show(&Cell::Float(*value)).fmt(out),
            Value::Str(value) => Show(&Cell::Str(value)).fmt(out),
            Value::Cut { whole_len, kept } => Show(&Cell::CutStr {
                whole_len: *whole_len,
                kept,
            })
            .fmt(out),
            Value::Bytes(value) => Show(&Cell::Bytes(value)).fmt(out),
            Value::List(items) => write!(out, "[{}]", list(items)),
            Value::Map(map) => {
                let entries = map.iter().map(|(key, value)| format!("{key:?}: {}", Show(value)));
                write!(out, "{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

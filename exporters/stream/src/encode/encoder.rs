//! The encoder of one subscriber, in any format.

use super::frames::Frames;
use super::lines::Json;
use super::{Encoded, written};
use crate::json;
use crate::ring::Gap;
use crate::rows::Rows;
use dichroic_wire::{CollectorHello, GapReason, Goodbye, Ping};

/// One subscriber's encoder.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// Wire frames.
    Frames(Box<Frames>),
    /// JSON objects, each a line or a server-sent event.
    Json(Box<Json>),
}

impl Encoder {
    /// `mixes`: the subscriber reads MIXED frames.
    pub fn frames(max_frame: u32, mixes: bool) -> Self {
        Encoder::Frames(Box::new(Frames::new(max_frame, mixes)))
    }

    pub fn json(sse: bool, epoch: u64) -> Self {
        Encoder::Json(Box::new(Json::new(sse, epoch)))
    }

    pub fn hello(&mut self, out: &mut Vec<u8>, hello: &CollectorHello) {
        match self {
            Encoder::Frames(_) => written(hello.to_hello().write(out)),
            Encoder::Json(json) => json.object(out, "hello", |out| json::hello(out, hello)),
        }
    }

    /// Appends rows, starting with the first.
    pub fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        match self {
            Encoder::Frames(frames) => frames.rows(out, rows),
            Encoder::Json(json) => json.rows(out, rows),
        }
    }

    pub fn gap(&mut self, out: &mut Vec<u8>, gap: &Gap) {
        let reason = GapReason::from_code(gap.reason as u8);
        let time = gap.time.map(|time| (time.start as i64, time.end as i64));
        match self {
            Encoder::Frames(frames) => {
                let schema = match &gap.schema {
                    Some(schema) => frames.schema(out, schema),
                    None => 0,
                };
                let reason = match reason {
                    // The version before MIXED has no time in a gap.
                    GapReason::NotSubscribed if !frames.mixes => GapReason::Other(reason.code()),
                    reason => reason,
                };
                let frame = dichroic_wire::Gap {
                    schema,
                    reason,
                    lost: gap.lost,
                    time,
                };
                frame.write(out);
            }
            Encoder::Json(json) => {
                let name = gap.schema.as_ref().map(|schema| schema.name.as_str());
                json.object(out, "gap", |out| json::gap(out, name, reason, gap.lost, time));
            }
        }
    }

    /// Writes a keep-alive. `ndjson` has none.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>, token: u64) {
        match self {
            Encoder::Frames(_) => Ping(token).write(out),
            Encoder::Json(json) if json.sse => out.extend_from_slice(b": heartbeat\n\n"),
            Encoder::Json(_) => {}
        }
    }

    pub fn goodbye(&mut self, out: &mut Vec<u8>, goodbye: &Goodbye) {
        match self {
            Encoder::Frames(_) => written(goodbye.write(out)),
            Encoder::Json(json) => {
                json.object(out, "goodbye", |out| {
                    json::goodbye(out, goodbye.code.code(), &goodbye.message);
                });
            }
        }
    }
}

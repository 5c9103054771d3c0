//! The outer shape that all three signals share: request, then resources, then scopes, then items.
//!
//! [`check`] looks at a whole body before anything of it is applied, so that a cut or garbled body changes nothing. [`Parts`] then
//! hands out one piece at a time and can stop anywhere between two items, so that a large body gives way to other requests.
//! Field numbers: `opentelemetry/proto/collector/{metrics,logs,trace}/v1`, and the messages they hold.

use super::Malformed;
use crate::Service;
use crate::walk::{Broken, Content, Cursor, submessage};
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Resources, scopes, metrics, points, records and spans of one request, at most.
pub(super) const MESSAGES: usize = 1 << 20;

/// A piece of a request, in the order in which it is to be looked at.
pub(super) enum Part {
    /// What follows comes from this resource.
    Resource(Vec<u8>),
    /// What follows was made by this scope.
    Scope(Vec<u8>),
    /// A metric, a log record, a span.
    Item(Range<usize>),
}

/// Where the walk stands in a body that [`check`] accepted.
#[derive(Debug)]
pub(super) struct Parts {
    /// What is left of the request, of its present resource and of that one's present scope.
    rest: [Range<usize>; 3],
}

impl Parts {
    pub(super) fn new(body: &Bytes) -> Self {
        Parts {
            rest: [0..body.len(), 0..0, 0..0],
        }
    }

    /// The next piece; `None` at the end.
    pub(super) fn next(&mut self, body: &[u8]) -> Option<Part> {
        loop {
            if let Some((number, item)) = message(body, &mut self.rest[2]) {
                if number == 2 {
                    return Some(Part::Item(item));
                }
            } else if let Some((number, scope)) = message(body, &mut self.rest[1]) {
                if number == 2 {
                    let about = own(submessage(&body[scope.clone()], 1));
                    self.rest[2] = scope;
                    return Some(Part::Scope(about));
                }
            } else if let Some((number, resource)) = message(body, &mut self.rest[0]) {
                if number == 1 {
                    let about = own(submessage(&body[resource.clone()], 1));
                    self.rest[1] = resource;
                    return Some(Part::Resource(about));
                }
            } else {
                return None;
            }
        }
    }
}

fn own(found: Result<Cow<'_, [u8]>, Broken>) -> Vec<u8> {
    found.map(Cow::into_owned).unwrap_or_default()
}

/// The next message field within `rest`, others skipped.
fn message(body: &[u8], rest: &mut Range<usize>) -> Option<(u32, Range<usize>)> {
    let mut cursor = Cursor::new(&body[rest.clone()]);
    while let Ok(Some((number, content))) = cursor.field() {
        if let Content::Bytes(bytes) = content {
            let end = rest.start + cursor.at();
            rest.start = end;
            return Some((number, end - bytes.len()..end));
        }
    }
    rest.start = rest.end;
    None
}

/// Refuses a body whose frame does not hold together, before anything of it is applied.
///
/// Looks as deep as data points are counted; what is broken inside a point costs that point alone. Refuses more than [`MESSAGES`] too,
/// so that a body of empty messages cannot hold up everyone.
pub(super) fn check(service: Service, body: &[u8]) -> Result<(), Malformed> {
    // A glance at every cache line in order, which memory answers much faster than the leaps from point to point that follow.
    std::hint::black_box(body.iter().step_by(64).fold(0, |seen, byte| seen ^ byte));
    let left = Cell::new(MESSAGES);
    let at = |within: &[u8], broken: Broken| Malformed {
        service,
        // Both are parts of one buffer.
        at: within.as_ptr() as usize - body.as_ptr() as usize,
        broken,
    };
    each(body, 1, &left, &at, &mut |resource| {
        each(resource, 2, &left, &at, &mut |scope| {
            each(scope, 2, &left, &at, &mut |item| match service {
                Service::Metrics => metric(item, &left, &at),
                Service::Logs | Service::Traces => Ok(()),
            })?;
            each(scope, 1, &left, &at, &mut |_| Ok(()))
        })?;
        each(resource, 1, &left, &at, &mut |_| Ok(()))
    })
}

type At<'f> = &'f dyn Fn(&[u8], Broken) -> Malformed;

/// Calls `inner` for each message field `number`; every other field only has to be whole.
fn each<'a>(
    message: &'a [u8],
    number: u32,
    left: &Cell<usize>,
    at: At<'_>,
    inner: &mut dyn FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(message);
    while let Some((field, content)) = cursor
        .field()
        .map_err(|broken| at(&message[cursor.at()..], broken))?
    {
        match content {
            Content::Bytes(bytes) if field == number => {
                let counted = left.get().checked_sub(1);
                left.set(counted.ok_or_else(|| at(bytes, Broken::TooMany))?);
                inner(bytes)?;
            }
            _ if field == number => return Err(at(&message[cursor.at()..], Broken::Type)),
            _ => {}
        }
    }
    Ok(())
}

fn metric(metric: &[u8], left: &Cell<usize>, at: At<'_>) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(metric);
    loop {
        match cursor
            .field()
            .map_err(|broken| at(&metric[cursor.at()..], broken))?
        {
            None => return Ok(()),
            Some((5 | 7 | 9 | 10 | 11, Content::Bytes(data))) => each(data, 1, left, at, &mut |_| Ok(()))?,
            Some((1..=3 | 5 | 7 | 9 | 10 | 11, content)) if !matches!(content, Content::Bytes(_)) => {
                return Err(at(&metric[cursor.at()..], Broken::Type));
            }
            Some(_) => {}
        }
    }
}

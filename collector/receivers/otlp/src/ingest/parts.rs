//! The outer shape that all three signals share: request, then resources, then scopes, then items.
//!
//! [`check`] looks at a whole body before anything of it is applied, so that a cut or garbled body changes nothing. [`RequestParts`] then
//! hands out one piece at a time and can stop anywhere between two items, so that a large body gives way to other requests.
//! Field numbers: `opentelemetry/proto/collector/{metrics,logs,trace}/v1`, and the messages they hold.

use super::error::MalformedRequest;
use crate::protobuf::{Content, Cursor, ProtobufError, submessage};
use crate::service::Service;
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Resources, scopes, metrics, points, records and spans of one request, at most.
pub(super) const MESSAGES: usize = 1 << 20;
/// Other fields beside them.
const FIELDS: usize = 4 * MESSAGES;
/// Bytes of a metric's data when it comes in several parts, which are put together for every step.
const PARTS_BYTES: usize = 1 << 20;

/// A piece of a request, in the order in which it is to be looked at.
pub(super) enum RequestPart {
    /// What follows comes from this resource.
    Resource(Vec<u8>),
    /// What follows was made by this scope.
    Scope(Vec<u8>),
    /// A metric, a log record, a span.
    Item(Range<usize>),
}

/// Where the walk stands in a body that [`check`] accepted.
#[derive(Debug)]
pub(super) struct RequestParts {
    /// What is left of the request, of its present resource and of that one's present scope.
    rest: [Range<usize>; 3],
}

impl RequestParts {
    pub(super) fn new(body: &Bytes) -> Self {
        RequestParts {
            rest: [0..body.len(), 0..0, 0..0],
        }
    }

    /// The next piece; `None` at the end.
    pub(super) fn next(&mut self, body: &[u8]) -> Option<RequestPart> {
        loop {
            if let Some((number, item)) = message(body, &mut self.rest[2]) {
                if number == 2 {
                    return Some(RequestPart::Item(item));
                }
            } else if let Some((number, scope)) = message(body, &mut self.rest[1]) {
                if number == 2 {
                    let about = own(submessage(&body[scope.clone()], 1));
                    self.rest[2] = scope;
                    return Some(RequestPart::Scope(about));
                }
            } else if let Some((number, resource)) = message(body, &mut self.rest[0]) {
                if number == 1 {
                    let about = own(submessage(&body[resource.clone()], 1));
                    self.rest[1] = resource;
                    return Some(RequestPart::Resource(about));
                }
            } else {
                return None;
            }
        }
    }
}

fn own(found: Result<Cow<'_, [u8]>, ProtobufError>) -> Vec<u8> {
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
/// Looks as deep as data points are counted; what is broken inside a point costs that point alone. Refuses more than [`MESSAGES`] and
/// [`FIELDS`] too, so that a body of empty messages cannot hold up everyone.
pub(super) fn check(service: Service, body: &[u8]) -> Result<(), MalformedRequest> {
    // A glance at every cache line in order, which memory answers much faster than the leaps from point to point that follow.
    std::hint::black_box(body.iter().step_by(64).fold(0, |seen, byte| seen ^ byte));
    let check = Check {
        service,
        body,
        messages: Cell::new(MESSAGES),
        fields: Cell::new(FIELDS),
    };
    check.each(body, 1, &mut |resource| {
        check.each(resource, 2, &mut |scope| {
            check.each(scope, 2, &mut |item| match service {
                Service::Metrics => check.metric(item),
                Service::Logs | Service::Traces => Ok(()),
            })?;
            check.each(scope, 1, &mut |_| Ok(()))
        })?;
        check.each(resource, 1, &mut |_| Ok(()))
    })
}

struct Check<'a> {
    service: Service,
    body: &'a [u8],
    /// How many more there may be.
    messages: Cell<usize>,
    fields: Cell<usize>,
}

impl<'a> Check<'a> {
    fn at(&self, within: &[u8], broken: ProtobufError) -> MalformedRequest {
        MalformedRequest {
            service: self.service,
            // Both are parts of one buffer.
            at: within.as_ptr() as usize - self.body.as_ptr() as usize,
            broken,
        }
    }

    fn count(&self, left: &Cell<usize>, at: &[u8]) -> Result<(), MalformedRequest> {
        let counted = left.get().checked_sub(1);
        left.set(counted.ok_or_else(|| self.at(at, ProtobufError::TooMany))?);
        Ok(())
    }

    /// Calls `inner` for each message field `number`; every other field only has to be whole.
    fn each(
        &self,
        message: &'a [u8],
        number: u32,
        inner: &mut dyn FnMut(&'a [u8]) -> Result<(), MalformedRequest>,
    ) -> Result<(), MalformedRequest> {
        let mut cursor = Cursor::new(message);
        while let Some((field, content)) = cursor
            .field()
            .map_err(|broken| self.at(&message[cursor.at()..], broken))?
        {
            match content {
                Content::Bytes(bytes) if field == number => {
                    self.count(&self.messages, bytes)?;
                    inner(bytes)?;
                }
                _ if field == number => return Err(self.at(&message[cursor.at()..], ProtobufError::Type)),
                _ => self.count(&self.fields, &message[cursor.at()..])?,
            }
        }
        Ok(())
    }

    fn metric(&self, metric: &'a [u8]) -> Result<(), MalformedRequest> {
        let mut cursor = Cursor::new(metric);
        let mut data_bytes = 0;
        loop {
            let field = cursor.field();
            let here = &metric[cursor.at()..];
            match field.map_err(|broken| self.at(here, broken))? {
                None => return Ok(()),
                Some((5 | 7 | 9 | 10 | 11, Content::Bytes(data))) => {
                    if data_bytes > 0 && data_bytes + data.len() > PARTS_BYTES {
                        return Err(self.at(data, ProtobufError::Parts));
                    }
                    data_bytes += data.len();
                    self.each(data, 1, &mut |_| Ok(()))?;
                }
                Some((1..=3 | 5 | 7 | 9 | 10 | 11, content)) if !matches!(content, Content::Bytes(_)) => {
                    return Err(self.at(here, ProtobufError::Type));
                }
                Some(_) => self.count(&self.fields, here)?,
            }
        }
    }
}

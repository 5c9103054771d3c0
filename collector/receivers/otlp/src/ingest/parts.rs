//! The structure that all three signals share: a request of resources, of scopes, of items.
//!
//! [`check`] validates a whole body before any of it is applied, so that a truncated or corrupt body changes nothing. [`RequestParts`]
//! then returns one part at a time and can stop between any two, so that a large body yields to other requests.
//! Field numbers: `opentelemetry/proto/collector/{metrics,logs,trace}/v1`, and the messages they hold.

use super::error::MalformedRequest;
use crate::protobuf::{Content, Cursor, ProtobufError, submessage};
use crate::service::Service;
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Most resources, scopes, metrics, points, records and spans of one request.
pub(super) const MESSAGES: usize = 1 << 20;
/// Most other fields of one request.
const FIELDS: usize = 4 * MESSAGES;
/// Most bytes of a metric's data when it is split over several fields, which are joined again in every step.
const PARTS_BYTES: usize = 1 << 20;

/// A part of a request, in the order of the body.
pub(super) enum RequestPart {
    /// The next parts are of this resource.
    Resource(Vec<u8>),
    /// The next items are of this scope: the message, and its schema URL.
    Scope(Vec<u8>, Vec<u8>),
    /// A metric, a log record, a span.
    Item(Range<usize>),
}

/// The position in a body that [`check`] accepted.
#[derive(Debug)]
pub(super) struct RequestParts {
    /// The rest of the request, of its current resource, and of that resource's current scope.
    rest: [Range<usize>; 3],
}

impl RequestParts {
    pub(super) fn new(body: &Bytes) -> Self {
        RequestParts {
            rest: [0..body.len(), 0..0, 0..0],
        }
    }

    /// The next part; `None` at the end.
    pub(super) fn next(&mut self, body: &[u8]) -> Option<RequestPart> {
        loop {
            if let Some((number, item)) = message(body, &mut self.rest[2]) {
                if number == 2 {
                    return Some(RequestPart::Item(item));
                }
            } else if let Some((number, scope)) = message(body, &mut self.rest[1]) {
                if number == 2 {
                    let about = owned(submessage(&body[scope.clone()], 1));
                    let url = last_bytes(&body[scope.clone()], 3).to_vec();
                    self.rest[2] = scope;
                    return Some(RequestPart::Scope(about, url));
                }
            } else if let Some((number, resource)) = message(body, &mut self.rest[0]) {
                if number == 1 {
                    let about = owned(submessage(&body[resource.clone()], 1));
                    self.rest[1] = resource;
                    return Some(RequestPart::Resource(about));
                }
            } else {
                return None;
            }
        }
    }
}

/// The last field with this number.
fn last_bytes(message: &[u8], number: u32) -> &[u8] {
    let (mut last, mut cursor) = (&[][..], Cursor::new(message));
    while let Ok(Some(field)) = cursor.field() {
        if let (found, Content::Bytes(bytes)) = field
            && found == number
        {
            last = bytes;
        }
    }
    last
}

fn owned(found: Result<Cow<'_, [u8]>, ProtobufError>) -> Vec<u8> {
    found.map(Cow::into_owned).unwrap_or_default()
}

/// The next message field within `rest`; other fields are skipped.
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

/// Rejects a body with an invalid structure, before any of it is applied.
///
/// Validates down to the data points, but not inside them: a malformed point costs that point alone. Also rejects more than
/// [`MESSAGES`] messages or [`FIELDS`] other fields, so that a body of empty messages cannot block other senders.
pub(super) fn check(service: Service, body: &[u8]) -> Result<(), MalformedRequest> {
    // Touches every cache line in order: sequential reads are much faster than the jumps from point to point that follow.
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
    /// Messages and fields that are still allowed.
    messages: Cell<usize>,
    fields: Cell<usize>,
}

impl<'a> Check<'a> {
    fn at(&self, within: &[u8], broken: ProtobufError) -> MalformedRequest {
        MalformedRequest {
            service: self.service,
            // `within` is a part of `body`.
            at: within.as_ptr() as usize - self.body.as_ptr() as usize,
            broken,
        }
    }

    fn count(&self, left: &Cell<usize>, at: &[u8]) -> Result<(), MalformedRequest> {
        let counted = left.get().checked_sub(1);
        left.set(counted.ok_or_else(|| self.at(at, ProtobufError::TooMany))?);
        Ok(())
    }

    /// Calls `inner` for each message field `number`; any other field only has to be well-formed.
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
            let rest = &metric[cursor.at()..];
            match field.map_err(|broken| self.at(rest, broken))? {
                None => return Ok(()),
                Some((5 | 7 | 9 | 10 | 11, Content::Bytes(data))) => {
                    if data_bytes > 0 && data_bytes + data.len() > PARTS_BYTES {
                        return Err(self.at(data, ProtobufError::Parts));
                    }
                    data_bytes += data.len();
                    self.each(data, 1, &mut |_| Ok(()))?;
                }
                Some((1..=3 | 5 | 7 | 9 | 10 | 11, content)) if !matches!(content, Content::Bytes(_)) => {
                    return Err(self.at(rest, ProtobufError::Type));
                }
                Some(_) => self.count(&self.fields, rest)?,
            }
        }
    }
}

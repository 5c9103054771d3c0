//! What each node sends: the times in which an event was not requested, as gaps of the subscribers that claim them.
//!
//! Relays send raw events only while there is a subscription for them, and nothing while they are disconnected. Receivers report
//! which streams a node sends, by event name, with the times of the switches by the clock of the rows. When the rows of a stream
//! start, or its node leaves, the time before becomes a [`Gap`]: in the replay, and for each subscriber as far as it claims that time
//! (see [`Claim`](super::claim::Claim)). The times of one stream never overlap.

use super::gap::Gap;
use super::request::StreamRequest;
use dichroic_model::{EventKind, EventSchema, GapReason, SECOND, Source, SourceId, TimeRange, UnixNanos};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A relay holds rows for at most this long while its connection works: older ones have arrived when it ends.
const HELD: UnixNanos = SECOND;

/// The start of a node's connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeStart {
    /// When its events started; 0 if unknown.
    pub events: UnixNanos,
    /// It is still the process of its connection before, with its totals.
    pub continues: bool,
    /// Until when it sent rows on an earlier connection, to this or another collector.
    pub rows_until: Option<UnixNanos>,
}

/// An event of a node.
#[derive(Debug)]
struct Stream {
    schema: Arc<EventSchema>,
    /// Since when its rows are not sent; `None` while they are.
    since: Option<UnixNanos>,
    /// Since when they are, or were the last time.
    from: UnixNanos,
    /// They were sent until the connection ended.
    broke: bool,
}

#[derive(Debug)]
struct Node {
    source: Arc<Source>,
    /// When its events started.
    start: UnixNanos,
    /// Until when it sent rows to an earlier collector.
    elsewhere_until: Option<UnixNanos>,
    connected: bool,
    /// When its last connection ended.
    broke: Option<UnixNanos>,
    streams: HashMap<(EventKind, String), Stream>,
}

impl Node {
    /// Streams and the start of a time without their rows, as gaps that end at a time: one for each start.
    fn gaps<'s>(
        &self,
        missing: impl Iterator<Item = (UnixNanos, &'s Arc<EventSchema>)>,
        end: UnixNanos,
    ) -> Vec<Gap> {
        let mut by_start: BTreeMap<_, Vec<Arc<EventSchema>>> = BTreeMap::new();
        for (start, schema) in missing {
            let key = (schema.kind, start);
            by_start.entry(key).or_default().push(schema.clone());
        }
        let gaps = by_start.into_iter().map(|((_, start), schemas)| Gap {
            after_restart: self.elsewhere_until.filter(|until| *until > start),
            ..missed(Some(&self.source), schemas, start, end)
        });
        gaps.filter(|gap| gap.time.is_some_and(|time| time.start < time.end))
            .collect()
    }
}

/// The nodes. Bounded by the sources, and the schemas of each.
#[derive(Debug, Default)]
pub(super) struct Demand {
    nodes: HashMap<SourceId, Node>,
}

impl Demand {
    /// A node has connected.
    pub fn connected(&mut self, source: &Arc<Source>, start: NodeStart) {
        let node = self.nodes.entry(source.id).or_insert_with(|| Node {
            source: source.clone(),
            start: start.events,
            elsewhere_until: start.rows_until,
            connected: true,
            broke: None,
            streams: HashMap::new(),
        });
        node.connected = true;
        if !start.continues {
            node.start = start.events;
        }
        // Of a process before, the last rows may be missing: its gap continues until the rows of this one.
        for stream in node.streams.values_mut() {
            if stream.broke && start.continues {
                stream.since = start.rows_until.or(stream.since);
            }
            stream.broke = false;
        }
    }

    /// All streams that the node can send, whether it does, and the time of the last row before it did not. `off`: the time between
    /// the end of those that it does not send any more and the start of those that it sends now. Returns the times that have ended.
    pub fn sends<'s>(
        &mut self,
        id: SourceId,
        streams: impl Iterator<Item = (&'s Arc<EventSchema>, bool, UnixNanos)>,
        off: TimeRange,
    ) -> Vec<Gap> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Vec::new();
        };
        let mut before = std::mem::take(&mut node.streams);
        // Several schemas of one name are requested together.
        let mut started = Vec::new();
        for (schema, sent, last) in streams {
            let key = (schema.kind, schema.name.clone());
            let stream = node.streams.entry(key).or_insert_with_key(|key| {
                before.remove(key).unwrap_or_else(|| Stream {
                    schema: schema.clone(),
                    since: Some(node.start),
                    from: 0,
                    broke: false,
                })
            });
            if stream.since.is_none() && !sent {
                stream.since = Some(off.start);
            }
            // A later row is of a clock that was set back.
            if last < off.end {
                stream.since = stream.since.map(|since| since.max(last + 1));
            }
            if let (Some(since), true) = (stream.since, sent) {
                started.push((since, schema));
                (stream.since, stream.from) = (None, off.end);
            }
        }
        node.gaps(started.into_iter(), off.end)
    }

    /// A node has disconnected, whose last data arrived at `heard`. `last`: the times of the last rows of its streams. Returns the
    /// times that have ended.
    pub fn disconnected<'s>(
        &mut self,
        id: SourceId,
        heard: UnixNanos,
        last: impl Iterator<Item = (&'s Arc<EventSchema>, UnixNanos)>,
        now: UnixNanos,
    ) -> Vec<Gap> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Vec::new();
        };
        (node.connected, node.broke) = (false, Some(now));
        let missing = node.streams.values();
        let missing = missing.filter_map(|stream| Some((stream.since?, &stream.schema)));
        let ended = node.gaps(missing, heard);
        let last: HashMap<_, _> = last
            .map(|(schema, time)| ((schema.kind, schema.name.as_str()), time))
            .collect();
        for ((kind, name), stream) in &mut node.streams {
            stream.broke = stream.since.is_none();
            let last = last.get(&(*kind, name.as_str())).map_or(0, |time| time + 1);
            stream.since = Some(match stream.since {
                Some(since) => since.max(heard),
                None => last.max(heard.saturating_sub(HELD)).max(stream.from),
            });
        }
        ended
    }

    pub fn remove(&mut self, id: SourceId) {
        self.nodes.remove(&id);
    }

    /// When the last connection of the node ended.
    pub fn broke(&self, id: SourceId) -> Option<UnixNanos> {
        self.nodes.get(&id)?.broke
    }

    /// The connected nodes that do not send some event of the request.
    pub fn without(&self, request: &StreamRequest) -> Vec<SourceId> {
        let lacks = |node: &&Node| {
            let missing = |stream: &Stream| stream.since.is_some() && request.matches(&stream.schema);
            node.connected && node.streams.values().any(missing)
        };
        self.nodes
            .values()
            .filter(lacks)
            .map(|node| node.source.id)
            .collect()
    }

    /// What the node has not sent until now among the events of the request.
    pub fn missing(&self, id: SourceId, request: &StreamRequest, now: UnixNanos) -> Vec<Gap> {
        let Some(node) = self.nodes.get(&id) else {
            return Vec::new();
        };
        let matching = node.streams.values().filter(|s| request.matches(&s.schema));
        node.gaps(
            matching.filter_map(|stream| Some((stream.since?, &stream.schema))),
            now,
        )
    }

    /// Whether a node is connected that could send events.
    pub fn is_any_connected(&self) -> bool {
        self.nodes.values().any(|node| node.connected)
    }

    /// Whether a node has an event with a name that matches.
    pub fn has(&self, matches: impl Fn(&EventSchema) -> bool) -> bool {
        let mut streams = self.nodes.values().flat_map(|node| node.streams.values());
        streams.any(|stream| matches(&stream.schema))
    }
}

/// A gap of rows that were not requested. Without schemas: of all.
pub(super) fn missed(
    source: Option<&Arc<Source>>,
    schemas: Vec<Arc<EventSchema>>,
    start: UnixNanos,
    end: UnixNanos,
) -> Gap {
    Gap {
        schemas: schemas.into(),
        source: source.cloned(),
        reason: GapReason::NotSubscribed,
        lost: None,
        time: Some(TimeRange { start, end }),
        after_restart: None,
    }
}

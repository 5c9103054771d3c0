//! What each node sends: the times in which an event was not requested, for the gaps of subscribers that look back.
//!
//! Relays send raw events only while there is a subscription for them, and nothing while they are disconnected. Receivers report
//! which streams a node sends, by event name; a name without a stream was not requested since a known time. When its rows start, that
//! time becomes a [`Gap`] in the replay. A subscriber that looks back across it gets the gap when the node has the plan with its
//! subscription, or has left.

use super::replay::Gap;
use super::request::StreamRequest;
use dichroic_model::{EventKind, EventSchema, GapReason, Source, SourceId, TimeRange, UnixNanos};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A time in which rows of a node were not requested.
#[derive(Debug, Clone)]
pub(super) struct Missed {
    pub gap: Gap,
    /// The node's connection broke at this time, while its process and the demand continued. `None`: there was no demand.
    pub broke: Option<UnixNanos>,
}

/// An event of a node.
#[derive(Debug)]
struct Stream {
    schema: Arc<EventSchema>,
    /// Since when its rows are not requested; `None` while they are sent.
    since: Option<UnixNanos>,
    broke: Option<UnixNanos>,
}

#[derive(Debug)]
struct Node {
    source: Arc<Source>,
    /// When its events started.
    start: UnixNanos,
    /// When its last data arrived, once it is disconnected.
    left: Option<UnixNanos>,
    streams: HashMap<(EventKind, String), Stream>,
}

/// The nodes. Bounded by the sources, and the schemas of each.
#[derive(Debug, Default)]
pub(super) struct Demand {
    nodes: HashMap<SourceId, Node>,
}

impl Demand {
    /// A node has connected. `start`: when its events started, 0 if unknown. `continues`: it is the process of the connection before.
    pub fn connected(&mut self, source: &Arc<Source>, start: UnixNanos, continues: bool) {
        let node = self.nodes.entry(source.id).or_insert_with(|| Node {
            source: source.clone(),
            start,
            left: None,
            streams: HashMap::new(),
        });
        node.left = None;
        if !continues {
            for stream in node.streams.values_mut() {
                stream.broke = None;
            }
        }
    }

    /// The streams that the node can send; with a time those that it does not, and since when if it did until now. Returns the times
    /// that have ended.
    pub fn sends<'s>(
        &mut self,
        id: SourceId,
        streams: impl Iterator<Item = (&'s Arc<EventSchema>, Option<UnixNanos>)>,
        now: UnixNanos,
    ) -> Vec<Missed> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Vec::new();
        };
        let mut before = std::mem::take(&mut node.streams);
        // Several schemas of one name are requested together.
        let mut ended: BTreeMap<_, Vec<Arc<EventSchema>>> = BTreeMap::new();
        for (schema, ended_at) in streams {
            let key = (schema.kind, schema.name.clone());
            let stream = node.streams.entry(key).or_insert_with_key(|key| {
                before.remove(key).unwrap_or_else(|| Stream {
                    schema: schema.clone(),
                    since: Some(node.start),
                    broke: None,
                })
            });
            match (stream.since, ended_at) {
                (Some(since), None) => {
                    ended
                        .entry((schema.kind, since, stream.broke))
                        .or_default()
                        .push(schema.clone());
                    (stream.since, stream.broke) = (None, None);
                }
                (None, Some(time)) => stream.since = Some(time.min(now)),
                _ => {}
            }
        }
        ended
            .into_iter()
            .map(|((_, start, broke), schemas)| Missed {
                gap: missed(Some(&node.source), schemas, start, now),
                broke,
            })
            .collect()
    }

    /// Rows of an event that is no longer requested were dropped: the first is from `time`.
    pub fn dropped(&mut self, id: SourceId, schema: &EventSchema, time: UnixNanos) {
        let stream = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.streams.get_mut(&(schema.kind, schema.name.clone())));
        if let Some(Stream {
            since: Some(since), ..
        }) = stream
        {
            *since = time.min(*since);
        }
    }

    /// A node has disconnected, whose last data arrived at `heard`.
    pub fn disconnected(&mut self, id: SourceId, heard: UnixNanos, now: UnixNanos) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.left = Some(heard);
        for stream in node.streams.values_mut().filter(|stream| stream.since.is_none()) {
            (stream.since, stream.broke) = (Some(heard), Some(now));
        }
    }

    pub fn remove(&mut self, id: SourceId) {
        self.nodes.remove(&id);
    }

    /// What was not requested until now among the events of a request that looks back to a time. A gap of a connected node ends when
    /// that has the plan with the request.
    pub fn lookback(&self, request: &StreamRequest, back_to: UnixNanos, now: UnixNanos) -> Lookback {
        let mut lookback = Lookback::default();
        for node in self.nodes.values() {
            let missing = node.streams.values().filter_map(|stream| {
                let since = stream.since.filter(|_| request.matches(&stream.schema))?;
                // What a broken connection lost is not known before the node is back.
                (stream.broke.is_none() || node.left.is_none()).then_some((since, &stream.schema))
            });
            let (times, schemas): (Vec<_>, Vec<_>) =
                missing.map(|(time, schema)| (time, schema.clone())).unzip();
            let Some(start) = times.into_iter().min() else {
                continue;
            };
            let gap = missed(Some(&node.source), schemas, start, node.left.unwrap_or(now)).since(back_to);
            let into = match node.left {
                Some(_) => &mut lookback.ended,
                None => &mut lookback.open,
            };
            into.extend(gap);
        }
        lookback
    }

    /// Whether a node is connected that could send events.
    pub fn is_any_connected(&self) -> bool {
        self.nodes.values().any(|node| node.left.is_none())
    }

    /// Whether a node has an event with a name that matches.
    pub fn has(&self, matches: impl Fn(&EventSchema) -> bool) -> bool {
        let mut streams = self.nodes.values().flat_map(|node| node.streams.values());
        streams.any(|stream| matches(&stream.schema))
    }
}

/// The gaps with which a subscription that looks back starts.
#[derive(Debug, Default)]
pub(super) struct Lookback {
    /// Of nodes that have left.
    pub ended: Vec<Gap>,
    /// Of connected nodes.
    pub open: Vec<Gap>,
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
    }
}

//! Resolves a resource to its source: found by the encoded resource, opened when it is new, ended after silence.
//!
//! The whole resource is the identity of a source. Programs often share a `service.instance.id`, and a program's logs or its restart may
//! have another resource than its metrics; the store tells their series apart where needed, so that no source replaces another.
//!
//! An OTLP source is not bound to a connection. It stays open for [`SourceRules::expire_after`] after its last request, as its series do.

use super::attributes::{Pair, pairs};
use crate::config::SourceRules;
use crate::protobuf::ProtobufError;
use dichroic_model::clock::steady;
use dichroic_model::{
    AttributeValue, Attributes, Expiry, Fingerprinter, Protocol, Runtime, Source, SourceId, SourceSpec,
    UnixNanos, attributes::cut,
};
use dichroic_pipeline::{Core, DropReason, NotAdmitted};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a resource; larger ones are rejected.
const RESOURCE_BYTES: usize = 64 * 1024;
/// Resources up to this size are cached by their bytes.
const CACHED_BYTES: usize = 8 * 1024;
/// Items without a source are counted under this id, which no source has.
pub const UNATTRIBUTED: SourceId = SourceId(u32::MAX);

/// A source and the seed of its series' fingerprints.
#[derive(Clone)]
pub(super) struct OpenSource {
    pub(super) source: Arc<Source>,
    pub(super) fingerprints: Fingerprinter,
}

/// An open source, and when it was last used.
struct SourceEntry {
    open: OpenSource,
    seen: UnixNanos,
}

/// The open sources of this receiver.
#[derive(Default)]
pub(super) struct Sources {
    rules: SourceRules,
    by_key: HashMap<Vec<u8>, SourceEntry>,
    /// Encoded resource, to the key of its source and the id it had.
    by_bytes: HashMap<Vec<u8>, (Vec<u8>, SourceId)>,
}

impl Sources {
    pub(super) fn new(rules: SourceRules) -> Self {
        Sources {
            rules,
            ..Sources::default()
        }
    }

    /// The source of a resource.
    pub(super) fn of(
        &mut self,
        store: &mut Core,
        resource: &[u8],
        now: UnixNanos,
    ) -> Result<OpenSource, DropReason> {
        if resource.len() > RESOURCE_BYTES {
            return Err(DropReason::LabelLimit);
        }
        if let Some((key, id)) = self.by_bytes.get(resource)
            && let Some(entry) = self.by_key.get_mut(key)
            && entry.open.source.id == *id
        {
            entry.seen = steady(now);
            return Ok(entry.open.clone());
        }
        let spec = spec(resource, &self.rules).map_err(|_| DropReason::Malformed)?;
        let key = spec.key.clone();
        let open = self.open(store, spec, now)?;
        if resource.len() <= CACHED_BYTES {
            if self.by_bytes.len() >= 2 * store.limits().sources {
                self.by_bytes.clear();
            }
            self.by_bytes.insert(resource.to_vec(), (key, open.source.id));
        }
        Ok(open)
    }

    fn open(&mut self, store: &mut Core, spec: SourceSpec, now: UnixNanos) -> Result<OpenSource, DropReason> {
        if let Some(entry) = self.by_key.get_mut(&spec.key) {
            entry.seen = steady(now);
            return Ok(entry.open.clone());
        }
        let key = spec.key.clone();
        let source = store
            .open_source(spec, now)
            .map_err(|NotAdmitted(reason)| reason)?;
        let fingerprints = store.fingerprinter(source.id);
        let open = OpenSource { source, fingerprints };
        let entry = SourceEntry {
            open: open.clone(),
            seen: steady(now),
        };
        self.by_key.insert(key, entry);
        Ok(open)
    }

    /// Ends the sources that have been silent for [`SourceRules::expire_after`].
    pub(super) fn tick(&mut self, store: &mut Core, now: UnixNanos) {
        let before = self.by_key.len();
        let idle = nanos(self.rules.expire_after);
        self.by_key.retain(|_, entry| {
            let kept = entry.seen + idle >= steady(now);
            if !kept {
                store.end_source(entry.open.source.id, now);
            }
            kept
        });
        if self.by_key.len() != before {
            let by_key = &self.by_key;
            self.by_bytes.retain(|_, (key, _)| by_key.contains_key(key));
        }
    }
}

/// The source that a resource describes.
fn spec(resource: &[u8], rules: &SourceRules) -> Result<SourceSpec, ProtobufError> {
    let mut all = pairs(resource, 1)?;
    let namespace = value(&all, "service.namespace");
    let name = value(&all, "service.name");
    let instance = value(&all, "service.instance.id");
    let job = if namespace.is_empty() || name.is_empty() {
        name.clone()
    } else {
        format!("{namespace}/{name}")
    };
    let runtime = match value(&all, "telemetry.sdk.language").as_str() {
        "python" => Runtime::Python,
        "erlang" => Runtime::Beam,
        _ => Runtime::Other,
    };
    let resource = Attributes::pack(&mut all);
    let shown = match (job.as_str(), instance.as_str()) {
        ("", "") => "otlp".to_owned(),
        (job, "") => job.to_owned(),
        (job, instance) => format!("{job} {instance}"),
    };
    let key = resource.as_bytes().to_vec();
    Ok(SourceSpec {
        name: cut(&shown, 256).to_owned(),
        runtime,
        job,
        instance,
        labels: promoted(&resource, &rules.promote_resource_attributes),
        resource,
        expiry: Expiry::AfterIdle(nanos(rules.expire_after)),
        expire_deltas_after: Some(nanos(rules.expire_deltas_after)),
        ..SourceSpec::new(Protocol::Otlp, key)
    })
}

/// The attributes that configuration promotes to labels.
fn promoted(resource: &Attributes, names: &[String]) -> Attributes {
    let mut pairs: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name.as_str().into(), resource.get(name)?)))
        .collect();
    Attributes::pack(&mut pairs)
}

fn nanos(time: Duration) -> UnixNanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The last value of a key, as text.
fn value(pairs: &[Pair<'_>], key: &str) -> String {
    let found = pairs.iter().rev().find(|(k, _)| k == key);
    found
        .map(|(_, value): &(_, AttributeValue<'_>)| value.render().into_owned())
        .unwrap_or_default()
}

//! Sources: a scraped target, an OTLP resource, a BEAM node, or the collector itself.
//!
//! A source has the `job` and `instance` labels of its series on `/metrics`. A source that returns with the same identity is the same
//! source; a boot id is an epoch of the source and never a label.

use crate::attributes::Attributes;
use std::fmt;

/// The id of a source. Never reused while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// The protocol of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// A relay on the local socket.
    Beam,
    /// OTLP over gRPC or HTTP.
    Otlp,
    /// A scraped Prometheus target.
    Prometheus,
    /// The collector's own instruments.
    Internal,
}

impl Protocol {
    /// The name in the ledger and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Beam => "beam",
            Protocol::Otlp => "otlp",
            Protocol::Prometheus => "prometheus",
            Protocol::Internal => "internal",
        }
    }
}

/// The runtime of the sending program: the `runtime` label of mapped families and of `target_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// Erlang, Elixir, Gleam.
    Beam,
    /// Any Python.
    Python,
    /// Another runtime, or not stated.
    Other,
}

impl Runtime {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Beam => "beam",
            Runtime::Python => "python",
            Runtime::Other => "other",
        }
    }
}

/// When series of a source expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Only when the receiver expires them, after a scrape without them.
    ByReceiver,
    /// This long after their last point, in nanoseconds.
    AfterIdle(u64),
    /// This long after the source has ended, in nanoseconds.
    AfterEnd(u64),
}

/// The description of a source by its receiver.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Its protocol.
    pub protocol: Protocol,
    /// Unique within the protocol: target URL, packed resource, node name. The same key is the same source.
    pub key: Vec<u8>,
    /// Display name: ledger, catalog, `Event.source`. Cut after 256 bytes.
    pub name: String,
    /// Its runtime.
    pub runtime: Runtime,
    /// The `job` label; omitted if empty.
    pub job: String,
    /// The `instance` label; omitted if empty.
    pub instance: String,
    /// Resource attributes, shown by `target_info`.
    pub resource: Attributes,
    /// Labels that configuration adds to every series of a scraped target.
    pub labels: Attributes,
    /// Whether `job` and `instance` of a series take precedence over the source's (Prometheus `honor_labels`).
    pub honor_labels: bool,
    /// When its series expire.
    pub expiry: Expiry,
    /// With [`Expiry::AfterIdle`]: the time for series with delta temporality, in nanoseconds, if it is longer.
    pub expire_deltas_after: Option<u64>,
}

impl SourceSpec {
    /// A source named after its key if that is UTF-8, without `job`, `instance` and resource. Only the receiver expires its series.
    ///
    /// ```
    /// use dichroic_model::{Protocol, Runtime, SourceSpec};
    /// let spec = SourceSpec {
    ///     runtime: Runtime::Beam,
    ///     job: "shop".to_owned(),
    ///     ..SourceSpec::new(Protocol::Beam, "shop@127.0.0.1")
    /// };
    /// assert_eq!(spec.name, "shop@127.0.0.1");
    /// ```
    pub fn new(protocol: Protocol, key: impl Into<Vec<u8>>) -> Self {
        let key = key.into();
        SourceSpec {
            protocol,
            name: str::from_utf8(&key).unwrap_or_default().to_owned(),
            key,
            runtime: Runtime::Other,
            job: String::new(),
            instance: String::new(),
            resource: Attributes::default(),
            labels: Attributes::default(),
            honor_labels: false,
            expiry: Expiry::ByReceiver,
            expire_deltas_after: None,
        }
    }
}

/// An open source. Immutable: a changed identity is another source.
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// Its description.
    pub spec: SourceSpec,
}

impl Source {
    /// The display name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Source({} {} {:?})",
            self.id.0,
            self.spec.protocol.as_str(),
            self.spec.name
        )
    }
}

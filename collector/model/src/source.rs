//! Who sent it: a scraped target, an OTLP resource, a BEAM node, or the collector itself.
//!
//! A source carries the `job` and `instance` under which its series appear on `/metrics`. The same identity coming back is
//! the same source; a boot id is an epoch of it and never a label.

use crate::attributes::Attributes;
use std::fmt;

/// A source's place in the store. Never reused while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// How a source speaks to the collector.
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
    /// The word of the ledger and of the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Beam => "beam",
            Protocol::Otlp => "otlp",
            Protocol::Prometheus => "prometheus",
            Protocol::Internal => "internal",
        }
    }
}

/// What runs the program that sends: the `runtime` label of mapped families and of `target_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// Erlang, Elixir, Gleam.
    Beam,
    /// Any Python.
    Python,
    /// Something else, or not told.
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

/// What makes series of a source leave by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Only when the receiver says so (a scrape that did not show them).
    ByReceiver,
    /// This long after their last point, in nanoseconds.
    AfterIdle(u64),
    /// This long after the source has ended, in nanoseconds.
    AfterEnd(u64),
}

/// What a receiver knows about a source when it opens it.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// How it speaks.
    pub protocol: Protocol,
    /// Unique within the protocol: target URL, packed resource, node name. The same key is the same source.
    pub key: Vec<u8>,
    /// For people: ledger, catalog, `Event.source`. At most 256 bytes are kept.
    pub name: String,
    /// What runs it.
    pub runtime: Runtime,
    /// The `job` label; empty leaves the label out.
    pub job: String,
    /// The `instance` label; empty leaves the label out.
    pub instance: String,
    /// Resource attributes, shown by `target_info`.
    pub resource: Attributes,
    /// Labels that configuration adds to every series of a scraped target.
    pub labels: Attributes,
    /// Whether a series' own `job` and `instance` win over the source's (Prometheus `honor_labels`).
    pub honor_labels: bool,
    /// How its series leave.
    pub expiry: Expiry,
}

impl SourceSpec {
    /// A source that is named after its key (where that is text) and has no other identity: no `job`, no `instance`, no resource;
    /// its series expire when the receiver says so.
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
        }
    }
}

/// An open source. Immutable: a changed identity is another source.
pub struct Source {
    /// Its place.
    pub id: SourceId,
    /// What it is.
    pub spec: SourceSpec,
}

impl Source {
    /// The name shown to people.
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

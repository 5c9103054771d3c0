//! `receivers.beam.attach`: nodes without a relay that the collector attaches to while it runs.

use super::position::KeyPath;
use super::values::present_section;
use super::violation::Violation;
use clap::ValueEnum;
use dichroic_beam_attach::Error;
use dichroic_beam_attach::address::{NodeName, PortLookup, is_address_elsewhere};
use dichroic_beam_attach::attach::NodeTarget;
use dichroic_beam_attach::cookie::CookieSources;
use dichroic_beam_attach::destination::Destinations;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How an attached relay reaches the collector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Transport {
    /// Over the local socket, or over security.local_tcp where the node cannot open the socket
    #[default]
    Auto,
    /// Over the local socket only
    Socket,
    /// Over security.local_tcp only
    Tcp,
}

/// A node that the collector attaches to over Erlang distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Name of the node, as `node()` returns it in the node; a node of another machine requires `tls`.
    #[schemars(example = &"shop@127.0.0.1")]
    pub node: String,
    /// File with the node's cookie, mode 0600. Default: the first of `$DICHROIC_COOKIE_FILE`, `~/.erlang.cookie` and
    /// `$XDG_CONFIG_HOME/erlang/.erlang.cookie`. Excludes `release`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/run/secrets/cookie")]
    pub cookie_file: Option<PathBuf>,
    /// Directory of the node's release, whose cookie is read from `releases/COOKIE`. Excludes `cookie_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/opt/my_app")]
    pub release: Option<PathBuf>,
    /// Address of the epmd at which the node is registered. Default: the node's host, port `$ERL_EPMD_PORT` or 4369.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"127.0.0.1:4369")]
    pub epmd: Option<String>,
    /// Distribution port of the node, for nodes without epmd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 9100)]
    pub port: Option<u16>,
    /// TLS, for nodes with `-proto_dist inet_tls`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_section"
    )]
    pub tls: Option<Tls>,
    /// How the relay sends its data to the collector.
    #[serde(default)]
    #[schemars(example = Transport::Tcp)]
    pub transport: Transport,
}

/// Certificates for TLS distribution, files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// CA bundle that verifies the node's certificate.
    #[schemars(example = &"/etc/dichroic/ca.pem")]
    pub ca_file: PathBuf,
    /// Certificate of the collector, for nodes that require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/etc/dichroic/cert.pem")]
    pub cert_file: Option<PathBuf>,
    /// Key of that certificate, mode 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/etc/dichroic/key.pem")]
    pub key_file: Option<PathBuf>,
    /// Name that the node's certificate must contain. Default: the host of the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop.internal")]
    pub server_name: Option<String>,
}

impl Attach {
    /// The node to connect to, and where its relay sends.
    pub fn target(&self, destinations: impl Into<Destinations>) -> Result<NodeTarget, Error> {
        Ok(NodeTarget {
            node: NodeName::parse(&self.node)?,
            lookup: self.lookup()?,
            cookie: CookieSources {
                file: self.cookie_file.clone(),
                release: self.release.clone(),
            },
            tls: self.tls.clone().map(|tls| dichroic_beam_attach::tls::Tls {
                ca_file: tls.ca_file,
                identity: tls.cert_file.zip(tls.key_file),
                server_name: tls.server_name,
            }),
            destinations: destinations.into(),
        })
    }

    fn lookup(&self) -> Result<PortLookup, Error> {
        match (&self.epmd, self.port) {
            (_, Some(port)) => Ok(PortLookup::Port(port)),
            (Some(epmd), None) => PortLookup::epmd(epmd),
            (None, None) => Ok(PortLookup::default()),
        }
    }
}

/// Checks the entries; `tcp` is whether `security.local_tcp` is set.
pub fn check(nodes: &[Attach], tcp: bool) -> Result<(), Violation> {
    for (at, node) in nodes.iter().enumerate() {
        let entry = KeyPath::of("receivers.beam.attach").item(at);
        let violation =
            |key: &str, message: &str, help: &str| Err(Violation::new(entry.clone().key(key), message, help));
        let Ok(name) = NodeName::parse(&node.node) else {
            return violation(
                "node",
                &format!("invalid node name {:?}", node.node),
                "write name@host, as node() returns it in the node",
            );
        };
        if node.tls.is_none() && is_address_elsewhere(&name.host) {
            let message =
                "an address of another machine requires tls: the cookie would cross the network unencrypted";
            return violation(
                "node",
                message,
                "set tls.ca_file, or run the collector on that machine",
            );
        }
        if nodes[..at].iter().any(|other| other.node == node.node) {
            let message = format!("duplicate node {:?}", node.node);
            return violation("node", &message, "keep one entry for each node");
        }
        if node.transport == Transport::Tcp && !tcp {
            let help = "set security.local_tcp, or write transport: auto";
            return violation("transport", "tcp requires security.local_tcp", help);
        }
        if node.cookie_file.is_some() && node.release.is_some() {
            return violation(
                "release",
                "cookie_file and release exclude each other",
                "remove one of the two",
            );
        }
        if node.epmd.is_some() && node.port.is_some() {
            return violation(
                "port",
                "epmd and port exclude each other",
                "remove one of the two",
            );
        }
        if node.lookup().is_err() {
            return violation(
                "epmd",
                &format!("invalid address {:?}", node.epmd.as_deref().unwrap_or_default()),
                "write HOST:PORT, such as 127.0.0.1:4369",
            );
        }
        let tls = node.tls.as_ref();
        if tls.is_some_and(|tls| tls.cert_file.is_some() != tls.key_file.is_some()) {
            return violation(
                "tls",
                "cert_file and key_file require each other",
                "write both, or neither",
            );
        }
    }
    Ok(())
}

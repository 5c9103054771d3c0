//! `receivers.beam.attach`: nodes without a relay that get one while the collector runs.

use clap::ValueEnum;
use dichroic_beam_attach::address::{NodeName, PortLookup};
use dichroic_beam_attach::attach::NodeTarget;
use dichroic_beam_attach::cookie::CookieSources;
use dichroic_beam_attach::destination::Destinations;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How an attached relay reaches the collector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By the local socket; by TCP where that cannot be opened
    #[default]
    Auto,
    /// By the local socket
    Socket,
    /// By security.local_tcp
    Tcp,
}

/// A node to attach to over Erlang distribution.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// `name@host`, on this machine unless there is `tls`.
    pub node: String,
    /// File with its cookie, mode 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_file: Option<PathBuf>,
    /// Folder of its release, whose `releases/COOKIE` is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<PathBuf>,
    /// `HOST:PORT` of epmd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epmd: Option<String>,
    /// Port of the node itself, for nodes without epmd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// For nodes that use TLS for distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How the relay's data comes here.
    #[serde(default)]
    pub transport: Transport,
}

/// Whom we trust and what we show, files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates of who signs the node's.
    pub ca_file: PathBuf,
    /// Our certificate, for nodes that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key, mode 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// A name in the node's certificate, when that is not the host of the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Attach {
    /// What to connect to, and where its relay sends.
    pub fn target(&self, data: impl Into<Destinations>) -> Result<NodeTarget, String> {
        let node = NodeName::parse(&self.node).map_err(|e| e.to_string())?;
        let lookup = match (&self.epmd, self.port) {
            (_, Some(port)) => PortLookup::Port(port),
            (Some(epmd), None) => PortLookup::epmd(epmd).map_err(|e| e.to_string())?,
            (None, None) => PortLookup::default(),
        };
        let tls = self.tls.as_ref().map(|tls| dichroic_beam_attach::tls::Tls {
            ca_file: tls.ca_file.clone(),
            identity: tls.cert_file.clone().zip(tls.key_file.clone()),
            server_name: tls.server_name.clone(),
        });
        let cookie = CookieSources {
            file: self.cookie_file.clone(),
            release: self.release.clone(),
        };
        Ok(NodeTarget {
            node,
            lookup,
            cookie,
            tls,
            destinations: data.into(),
        })
    }
}

/// What types cannot say. `tcp`: whether there is `security.local_tcp`.
pub fn check(nodes: &[Attach], tcp: bool) -> Result<(), String> {
    for (at, node) in nodes.iter().enumerate() {
        let wrong = |message: &str| Err(format!("receivers.beam.attach: {}: {message}", node.node));
        if let Err(message) = node.target(Path::new("")) {
            return Err(format!("receivers.beam.attach: {message}"));
        }
        if nodes[..at].iter().any(|other| other.node == node.node) {
            return wrong("stands there twice");
        }
        if node.transport == Transport::Tcp && !tcp {
            return wrong("transport: tcp wants security.local_tcp, which is not set");
        }
        if node.epmd.is_some() && node.port.is_some() {
            return wrong("write epmd or port, not both");
        }
        if node
            .tls
            .as_ref()
            .is_some_and(|tls| tls.cert_file.is_some() != tls.key_file.is_some())
        {
            return wrong("tls: write both of cert_file and key_file, or none");
        }
    }
    Ok(())
}

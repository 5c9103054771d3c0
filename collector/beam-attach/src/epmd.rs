//! Port lookup at epmd. Protocol: "EPMD Protocol" in the distribution protocol of the ERTS user's guide.

use crate::address::{HostAddress, NodeName, PortLookup, resolve};
use crate::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PORT_PLEASE2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;

/// The distribution port of a node at `machine`. The answer of epmd is not trusted: the peer at the port must know the cookie, and with
/// TLS (`secure`) have a valid certificate.
pub async fn port(
    lookup: &PortLookup,
    node: &NodeName,
    machine: HostAddress,
    secure: bool,
) -> Result<u16, Error> {
    let (host, port) = match lookup {
        PortLookup::Port(port) => return Ok(*port),
        PortLookup::Epmd { host, port } => (host, *port),
    };
    let ip = match host {
        Some(host) => resolve(host, secure).await?.ip,
        None if machine.local => Ipv4Addr::LOCALHOST.into(),
        None => machine.ip,
    };
    let at = SocketAddr::new(ip, port);
    let message = |e: std::io::Error| {
        Error::Epmd(format!(
            "epmd at {at}: {e}; check that the node is distributed, or set another epmd with --epmd or the port of the node with --port"
        ))
    };
    let mut stream = TcpStream::connect(at).await.map_err(message)?;
    stream.write_all(&request(&node.alive)?).await.map_err(message)?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.map_err(message)?;
    match head {
        [PORT2_RESP, 0] => Ok(stream.read_u16().await.map_err(message)?),
        [PORT2_RESP, _] => Err(Error::Epmd(format!(
            "node {:?} is not registered at epmd {at}; `epmd -names` lists the registered nodes",
            node.alive
        ))),
        _ => Err(Error::Epmd(format!("the peer at {at} is not epmd"))),
    }
}

fn request(alive: &str) -> Result<Vec<u8>, Error> {
    let len = u16::try_from(alive.len() + 1).map_err(|_| Error::Usage("node name too long".to_owned()))?;
    let mut out = len.to_be_bytes().to_vec();
    out.push(PORT_PLEASE2_REQ);
    out.extend_from_slice(alive.as_bytes());
    Ok(out)
}

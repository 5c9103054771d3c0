//! A fake node: a listener that performs the handshake and then runs the code of a test.

use dichroic_beam_attach::Error;
use dichroic_beam_attach::address::{NodeName, PortLookup};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::cookie::Cookie;
use dichroic_beam_attach::tls::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const COOKIE: &[u8] = b"cookie";
pub const NAME: &[u8] = b"fake@127.0.0.1";

/// Connects to a listener that runs `peer`, with TLS if `tls` is given.
pub async fn connect<F>(tls: Option<&Tls>, peer: impl FnOnce(TcpStream) -> F) -> Result<Connection, Error>
where
    F: Future<Output = std::io::Result<()>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = NodeName::parse("fake@127.0.0.1").unwrap();
    let cookie = Cookie::new(COOKIE).unwrap();
    let lookup = PortLookup::Port(port);
    let (connection, ()) = tokio::join!(Connection::open(&node, &lookup, &cookie, tls), async {
        let (stream, _) = listener.accept().await.unwrap();
        // Most peers fail because the connection is closed, as tested.
        let _ = peer(stream).await;
    });
    connection
}

fn digest(cookie: &[u8], challenge: u32) -> [u8; 16] {
    use md5::{Digest, Md5};
    Md5::digest([cookie, challenge.to_string().as_bytes()].concat()).into()
}

pub async fn message(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_u16(bytes.len() as u16).await?;
    stream.write_all(bytes).await
}

pub async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The node's side of a handshake, with its name and cookie.
pub async fn shake(stream: &mut TcpStream, name: &[u8], cookie: &[u8]) -> std::io::Result<()> {
    let hello = read(stream).await?;
    assert_eq!(hello[0], b'N');
    message(stream, b"snamed:\x00\x0dabc@127.0.0.1\x00\x00\x00\x01").await?;
    let mut challenge = b"N\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x00\x00\x01".to_vec();
    challenge.extend_from_slice(&(name.len() as u16).to_be_bytes());
    challenge.extend_from_slice(name);
    message(stream, &challenge).await?;
    let reply = read(stream).await?;
    assert_eq!(reply[0], b'r');
    let theirs = u32::from_be_bytes(reply[1..5].try_into().unwrap());
    let ack = [&b"a"[..], &digest(cookie, theirs)].concat();
    message(stream, &ack).await
}

//! The handshake of Erlang distribution, version 6, as the connecting side, with a name that the node assigns.
//!
//! The codec is plain functions over bytes; [`shake`] sends and reads them. Format: "Distribution Handshake" of the ERTS user's guide.
//! `NAME_ME` requests an assigned name, so that a connection creates no node-name atom; the connection is hidden from the
//! clustering of the node.

use crate::cookie::Cookie;
use crate::error::Error;
use crate::tls;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest accepted handshake message.
const MAX_MESSAGE: usize = 1024;
/// The start of a TLS alert (type 21, version 3), which a TLS node sends. As a length it is too large.
const TLS_ALERT: usize = 0x1503;

/// Flags that OTP 25 to 28 require, and monitors. Not published; without atom cache, fragments and distribution headers, so that every
/// message is a plain one.
const FLAGS: u64 = EXTENDED_REFERENCES
    | DIST_MONITOR
    | FUN_TAGS
    | DIST_MONITOR_NAME
    | NEW_FUN_TAGS
    | EXTENDED_PIDS_PORTS
    | EXPORT_PTR_TAG
    | BIT_BINARIES
    | NEW_FLOATS
    | UTF8_ATOMS
    | MAP_TAGS
    | BIG_CREATION
    | HANDSHAKE_23
    | UNLINK_ID
    | NAME_ME
    | V4_NC
    | MANDATORY_25_DIGEST;
const EXTENDED_REFERENCES: u64 = 0x4;
const DIST_MONITOR: u64 = 0x8;
const FUN_TAGS: u64 = 0x10;
const DIST_MONITOR_NAME: u64 = 0x20;
const NEW_FUN_TAGS: u64 = 0x80;
const EXTENDED_PIDS_PORTS: u64 = 0x100;
const EXPORT_PTR_TAG: u64 = 0x200;
const BIT_BINARIES: u64 = 0x400;
const NEW_FLOATS: u64 = 0x800;
const UTF8_ATOMS: u64 = 0x1_0000;
const MAP_TAGS: u64 = 0x2_0000;
const BIG_CREATION: u64 = 0x4_0000;
const HANDSHAKE_23: u64 = 0x100_0000;
const UNLINK_ID: u64 = 0x200_0000;
const NAME_ME: u64 = 1 << 33;
const V4_NC: u64 = 1 << 34;
const MANDATORY_25_DIGEST: u64 = 1 << 36;

/// The names and creation agreed in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// The name that the node assigned.
    pub own_name: String,
    /// The creation that the node assigned.
    pub own_creation: u32,
    /// The name of the node.
    pub peer_name: String,
}

/// The status message of the node.
#[derive(Debug, PartialEq, Eq)]
enum Status {
    Named { name: String, creation: u32 },
    Refused(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    value: u32,
    creation: u32,
    name: String,
}

/// Size of the length field of handshake messages. After the handshake it is four bytes in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Without TLS.
    Two,
    /// Over TLS: `inet_tls_dist` has four from the beginning.
    Four,
}

/// Performs the handshake. `host` is the host part of the node name; the assigned name gets the same host, so that both are short or
/// long names.
///
/// # Errors
/// The node is of another kind or version, refuses, or has another cookie.
pub async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    length: Length,
    host: &str,
    cookie: &Cookie,
) -> Result<Introduced, Error> {
    let (own_name, own_creation, challenge) = introduce(stream, length, host).await?;
    let ours = random()?;
    let mut reply = vec![b'r'];
    reply.extend_from_slice(&ours.to_be_bytes());
    reply.extend_from_slice(&cookie.digest(challenge.value));
    send(stream, length, &reply).await?;
    let wrong_cookie = || {
        Error::Refused(format!(
            "{} does not accept the cookie: use the cookie that the node runs with",
            challenge.name
        ))
    };
    // A node closes the connection without a reply on a wrong digest.
    let ack = read_message(stream, length).await.map_err(|_| wrong_cookie())?;
    match ack.split_first() {
        Some((b'a', digest)) if digest == cookie.digest(ours) => Ok(Introduced {
            own_name,
            own_creation,
            peer_name: challenge.name,
        }),
        // The peer impersonates the node without knowing the cookie.
        Some((b'a', _)) => Err(Error::Refused(format!(
            "the peer that claims to be {} does not know the cookie; nothing was sent to it",
            challenge.name
        ))),
        _ => Err(not_a_node()),
    }
}

/// The first half of the handshake, which does not prove knowledge of the cookie: the assigned name and creation, and the challenge.
async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    length: Length,
    host: &str,
) -> Result<(String, u32, Challenge), Error> {
    send(stream, length, &name_message(host)).await?;
    let (own_name, own_creation) = match status(&read(stream, length, "the name message").await?)? {
        Status::Named { name, creation } => (name, creation),
        Status::Refused(message) => {
            return Err(Error::Refused(format!(
                "the node refuses the connection: {message}"
            )));
        }
    };
    let challenge = challenge(&read(stream, length, "the name message").await?)?;
    Ok((own_name, own_creation, challenge))
}

/// The creation of the node, which changes when it restarts. The handshake ends before the cookie is checked, so that the node logs
/// nothing.
///
/// # Errors
/// As [`shake`], except for the cookie.
pub async fn creation<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    length: Length,
    host: &str,
) -> Result<u32, Error> {
    let (.., challenge) = introduce(stream, length, host).await?;
    Ok(challenge.creation)
}

fn not_a_node() -> Error {
    Error::Protocol("the peer is not an Erlang node of OTP 23 or newer".to_owned())
}

fn random() -> Result<u32, Error> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::Connection(format!("cannot get random numbers: {e}")))?;
    Ok(u32::from_ne_bytes(bytes))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, length: Length, message: &[u8]) -> Result<(), Error> {
    let mut out = match length {
        Length::Two => (message.len() as u16).to_be_bytes().to_vec(),
        Length::Four => (message.len() as u32).to_be_bytes().to_vec(),
    };
    out.extend_from_slice(message);
    let written = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    written
        .await
        .map_err(|e| tls::alert_error(&e).unwrap_or_else(|| Error::io("handshake", &e)))
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S, length: Length, after: &str) -> Result<Vec<u8>, Error> {
    let explain = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Error::Handshake(format!(
            "the node closed the connection after {after}; if it uses TLS for distribution, {TLS_ADVICE}"
        )),
        io::ErrorKind::Unsupported => {
            Error::Refused(format!("the node uses TLS for distribution: {TLS_ADVICE}"))
        }
        io::ErrorKind::InvalidData => not_a_node(),
        _ => Error::io("handshake", &e),
    };
    let message = read_message(stream, length).await;
    message.map_err(|e| tls::alert_error(&e).unwrap_or_else(|| explain(e)))
}

const TLS_ADVICE: &str = "set its CA with --tls-ca (tls.ca_file in the configuration)";

async fn read_message<S: AsyncRead + Unpin>(stream: &mut S, length: Length) -> io::Result<Vec<u8>> {
    let len = match length {
        Length::Two => usize::from(stream.read_u16().await?),
        Length::Four => stream.read_u32().await? as usize,
    };
    if len == TLS_ALERT && length == Length::Two {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if len == 0 || len > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn name_message(host: &str) -> Vec<u8> {
    let mut out = vec![b'N'];
    out.extend_from_slice(&FLAGS.to_be_bytes());
    out.extend_from_slice(&0_u32.to_be_bytes());
    out.extend_from_slice(&(host.len() as u16).to_be_bytes());
    out.extend_from_slice(host.as_bytes());
    out
}

fn status(message: &[u8]) -> Result<Status, Error> {
    let message = message.strip_prefix(b"s").ok_or_else(not_a_node)?;
    if let Some(rest) = message.strip_prefix(b"named:") {
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(not_a_node)?;
        let (name, rest) = rest
            .split_at_checked(usize::from(u16::from_be_bytes(*len)))
            .ok_or_else(not_a_node)?;
        let creation = rest.first_chunk::<4>().ok_or_else(not_a_node)?;
        return Ok(Status::Named {
            name: String::from_utf8(name.to_vec()).map_err(|_| not_a_node())?,
            creation: u32::from_be_bytes(*creation),
        });
    }
    let message = String::from_utf8_lossy(message);
    Ok(Status::Refused(match &*message {
        "not_allowed" => "not_allowed: net_kernel:allow/1 on the node lists other names".to_owned(),
        "ok" | "ok_simultaneous" => "it does not assign names (OTP 23 or newer is required)".to_owned(),
        other => other.chars().take(64).collect(),
    }))
}

fn challenge(message: &[u8]) -> Result<Challenge, Error> {
    let rest = message.strip_prefix(b"N").ok_or_else(not_a_node)?;
    let (_flags, rest) = rest.split_first_chunk::<8>().ok_or_else(not_a_node)?;
    let (value, rest) = rest.split_first_chunk::<4>().ok_or_else(not_a_node)?;
    let (creation, rest) = rest.split_first_chunk::<4>().ok_or_else(not_a_node)?;
    let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(not_a_node)?;
    let name = rest
        .get(..usize::from(u16::from_be_bytes(*len)))
        .ok_or_else(not_a_node)?;
    Ok(Challenge {
        value: u32::from_be_bytes(*value),
        creation: u32::from_be_bytes(*creation),
        name: String::from_utf8(name.to_vec()).map_err(|_| not_a_node())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_are_read() {
        let check = |message: &[u8], expected: Option<Status>| {
            assert_eq!(status(message).ok(), expected, "{message:?}")
        };
        check(
            b"snamed:\x00\x03a@b\x00\x00\x00\x07",
            Some(Status::Named {
                name: "a@b".to_owned(),
                creation: 7,
            }),
        );
        check(b"snok", Some(Status::Refused("nok".to_owned())));
        check(b"snamed:\x00\x09a@b\x00\x00\x00\x07", None);
        check(b"HTTP", None);
    }

    #[test]
    fn a_challenge_is_read() {
        let mut message = b"N".to_vec();
        message.extend_from_slice(&5_u64.to_be_bytes());
        message.extend_from_slice(&9_u32.to_be_bytes());
        message.extend_from_slice(&1_u32.to_be_bytes());
        message.extend_from_slice(b"\x00\x03s@h");
        let read = challenge(&message).unwrap();
        assert_eq!((read.value, read.creation, read.name.as_str()), (9, 1, "s@h"));
        for cut in 0..message.len() {
            assert!(challenge(&message[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = status(&bytes);
            let _ = challenge(&bytes);
        }
    }
}

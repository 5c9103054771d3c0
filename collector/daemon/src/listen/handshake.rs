//! The handshake: reads the HELLO of a new connection, checks its token, and accepts the roles relay and subscriber.
//!
//! A connection without a HELLO is closed after five seconds. An HTTP request is answered in HTTP with the address of the page; every
//! other refused connection gets a GOODBYE with a message.

use crate::config::values::Secret;
use crate::listen::refused::Reason;
use crate::listen::stream::LocalStream;
use dichroic_wire::limits::HELLO_TIMEOUT;
use dichroic_wire::{ErrorKind, FrameReader, FrameType, Goodbye, GoodbyeCode, Hello, Role};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Time that a refused peer has to read the answer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes from such a peer that are read and discarded: to close with unread bytes would reset the connection and lose the answer.
const DISCARDED: u64 = 64 << 10;

/// A connection after the handshake.
pub struct Accepted {
    /// Its HELLO.
    pub hello: Hello,
    /// Bytes read after the HELLO.
    pub read_ahead: Vec<u8>,
}

/// What a listener requires of a HELLO, and its texts for the log and for refused peers.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The listener's name in the configuration, for the log.
    pub listener: &'static str,
    /// The token that every HELLO must contain.
    pub token: Option<&'a Secret>,
    /// Address of the page, for peers that send HTTP requests. `None`: it is off.
    pub page: Option<SocketAddr>,
}

/// Reads the HELLO. `None`: the peer closed. An error: the peer was refused and answered.
pub async fn handshake(stream: &mut LocalStream, terms: Terms<'_>) -> Result<Option<Accepted>, Reason> {
    // Before the handshake: the peer of a broken TCP connection has no address.
    let peer = stream.peer();
    let error = match tokio::time::timeout(HELLO_TIMEOUT, read(stream, terms.token)).await {
        Ok(Ok(accepted)) => return Ok(accepted),
        Ok(Err(error)) => error,
        Err(_) => HandshakeError::refused(GoodbyeCode::Timeout, "no HELLO within 5 seconds"),
    };
    tracing::warn!(
        listener = terms.listener,
        uid = peer.uid,
        pid = peer.pid,
        peer = peer.address,
        reason = %error,
        "refused a connection"
    );
    close_with(stream, &error.answer(terms.page)).await;
    Err(error.reason())
}

/// Writes a last answer and waits a short time for the peer to read it and to close.
pub async fn close_with(stream: &mut LocalStream, answer: &[u8]) {
    let close = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(DISCARDED), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
}

/// A GOODBYE as a frame.
pub fn goodbye_frame(goodbye: &Goodbye) -> Vec<u8> {
    let mut frame = Vec::new();
    // Cannot fail: the constructor cuts the message to the size of a frame.
    let _ = goodbye.write(&mut frame);
    frame
}

#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("HTTP request on a Dichroic socket")]
    Http,
    #[error("{message}")]
    Refused { code: GoodbyeCode, message: String },
}

impl HandshakeError {
    fn refused(code: GoodbyeCode, message: impl Into<String>) -> Self {
        HandshakeError::Refused {
            code,
            message: message.into(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            HandshakeError::Refused { code, .. } => match code {
                GoodbyeCode::Timeout => Reason::Timeout,
                GoodbyeCode::Unauthorized => Reason::Token,
                _ => Reason::Malformed,
            },
            HandshakeError::Http => Reason::Malformed,
        }
    }

    fn answer(&self, page: Option<SocketAddr>) -> Vec<u8> {
        match self {
            HandshakeError::Http => {
                let hint = match page {
                    Some(page) => format!("metrics are served at http://{page}/metrics"),
                    None => "set exporters.prometheus.listen to serve metrics over HTTP".to_owned(),
                };
                let body = format!("this socket accepts Dichroic frames, not HTTP; {hint}\n");
                let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length:";
                format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
            }
            HandshakeError::Refused { code, message } => {
                let retry_ms = if *code == GoodbyeCode::Timeout { 0 } else { 60_000 };
                goodbye_frame(&Goodbye::new(*code, retry_ms, message))
            }
        }
    }
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    token: Option<&Secret>,
) -> Result<Option<Accepted>, HandshakeError> {
    let mut reader = FrameReader::new();
    let mut buffer = vec![0; 4_096];
    loop {
        let hello = match reader.next() {
            Ok(None) => None,
            Ok(Some(frame)) if frame.frame_type == FrameType::Hello => Some(Hello::decode(frame.body)),
            // Before the handshake the reader accepts only HELLO and GOODBYE: the peer has ended the connection.
            Ok(Some(_)) => return Ok(None),
            Err(error) => Some(Err(error)),
        };
        match hello {
            None => {}
            Some(Err(error)) if matches!(error.kind, ErrorKind::Http) => return Err(HandshakeError::Http),
            Some(Err(error)) => {
                let code = error.goodbye_code().unwrap_or(GoodbyeCode::Malformed);
                return Err(HandshakeError::refused(code, error.to_string()));
            }
            Some(Ok(hello)) => return accept(hello, &reader, token).map(Some),
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(n) => reader.push(&buffer[..n]),
        }
    }
}

fn accept(hello: Hello, reader: &FrameReader, token: Option<&Secret>) -> Result<Accepted, HandshakeError> {
    if let Some(token) = token {
        let sent = hello.token().ok().flatten();
        if !sent.is_some_and(|sent| token.matches(sent)) {
            let message = if sent.is_some() {
                "the token is not that of security.local_tcp"
            } else {
                "this port requires the token of security.local_tcp"
            };
            return Err(HandshakeError::refused(GoodbyeCode::Unauthorized, message));
        }
    }
    match hello.role {
        Role::Relay | Role::Subscriber => Ok(Accepted {
            hello,
            read_ahead: reader.unread().to_vec(),
        }),
        role => {
            let message = format!("invalid role {role:?}: expected relay or subscriber");
            Err(HandshakeError::refused(GoodbyeCode::BadRequest, message))
        }
    }
}

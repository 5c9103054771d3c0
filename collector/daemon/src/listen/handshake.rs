//! The first seconds of a connection of a relay or a subscriber: who is it?
//!
//! One framing, two roles: the HELLO says relay or subscriber, and shows the token where one is asked for. A peer that says nothing
//! is dropped after five seconds, one that speaks HTTP is told where the HTTP side is, and everything else that is wrong is answered
//! with a GOODBYE in words.

use crate::config::values::Secret;
use crate::listen::stream::Peer;
use crate::listen::{Door, Reason};
use dichroic_wire::limits::HELLO_TIMEOUT;
use dichroic_wire::{ErrorKind, FrameReader, FrameType, Goodbye, GoodbyeCode, Hello, Role};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// How long a peer that was refused may take to read why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes of such a peer that are read and forgotten, so that closing is no reset that takes our words with it.
const FORGOTTEN: u64 = 64 << 10;

/// A connection that has said who it is.
pub struct Greeted {
    /// What it said.
    pub hello: Hello,
    /// What it sent after that.
    pub leftover: Vec<u8>,
}

/// Reads the HELLO. `None`: the peer went away by itself. An error: it was refused, told why, and is done.
pub async fn greet(peer: &mut Peer, door: &Door, pages: &str) -> Result<Option<Greeted>, Reason> {
    let refusal = match tokio::time::timeout(HELLO_TIMEOUT, read(peer, door.token())).await {
        Ok(Ok(greeted)) => return Ok(greeted),
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::Goodbye(GoodbyeCode::Timeout, "no HELLO within 5 seconds".to_owned()),
    };
    let (answer, message, reason) = match refusal {
        Refusal::Http => {
            let body =
                format!("this socket speaks the dichroic framing; pages are at http://{pages}/metrics\n");
            let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length:";
            let answer = format!("{head} {}\r\n\r\n{body}", body.len());
            (
                answer.into_bytes(),
                "it speaks HTTP".to_owned(),
                Reason::Malformed,
            )
        }
        Refusal::Goodbye(code, message) => {
            let (reason, retry) = match code {
                GoodbyeCode::Timeout => (Reason::Timeout, 0),
                GoodbyeCode::Unauthorized => (Reason::Token, 60_000),
                _ => (Reason::Malformed, 60_000),
            };
            (goodbye(&Goodbye::new(code, retry, &message)), message, reason)
        }
    };
    tracing::warn!(listener = door.name(), message, "a connection was refused");
    last_words(peer, &answer).await;
    Err(reason)
}

/// A GOODBYE as a frame.
pub fn goodbye(message: &Goodbye) -> Vec<u8> {
    let mut frame = Vec::new();
    // Goodbyes are cut to what a frame holds.
    let _ = message.write(&mut frame);
    frame
}

/// Says it, and gives the peer a moment to read it and to close.
pub async fn last_words(peer: &mut Peer, answer: &[u8]) {
    let saying = async {
        peer.write_all(answer).await?;
        peer.shutdown().await?;
        tokio::io::copy(&mut peer.take(FORGOTTEN), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LAST_WORDS, saying).await;
}

enum Refusal {
    Http,
    Goodbye(GoodbyeCode, String),
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    token: Option<&Secret>,
) -> Result<Option<Greeted>, Refusal> {
    let mut reader = FrameReader::new();
    let mut buffer = vec![0; 4_096];
    loop {
        let hello = match reader.next() {
            Ok(None) => None,
            Ok(Some(frame)) if frame.frame_type == FrameType::Hello => Some(Hello::decode(frame.body)),
            // A peer that only says goodbye changed its mind.
            Ok(Some(_)) => return Ok(None),
            Err(error) => Some(Err(error)),
        };
        match hello {
            None => {}
            Some(Err(error)) if matches!(error.kind, ErrorKind::Http) => return Err(Refusal::Http),
            Some(Err(error)) => {
                let code = error.goodbye_code().unwrap_or(GoodbyeCode::Malformed);
                return Err(Refusal::Goodbye(code, error.to_string()));
            }
            Some(Ok(hello)) => return accept(hello, &reader, token).map(Some),
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(n) => reader.push(&buffer[..n]),
        }
    }
}

fn accept(hello: Hello, reader: &FrameReader, token: Option<&Secret>) -> Result<Greeted, Refusal> {
    if let Some(token) = token {
        let shown = hello.token().ok().flatten();
        if !shown.is_some_and(|shown| token.matches(shown)) {
            let what = if shown.is_some() {
                "the token is not that of security.local_tcp"
            } else {
                "this port wants the token of security.local_tcp"
            };
            return Err(Refusal::Goodbye(GoodbyeCode::Unauthorized, what.to_owned()));
        }
    }
    match hello.role {
        Role::Relay | Role::Subscriber => Ok(Greeted {
            hello,
            leftover: reader.unread().to_vec(),
        }),
        role => Err(Refusal::Goodbye(
            GoodbyeCode::BadRequest,
            format!("role {role:?} is not served here; connect as relay or subscriber"),
        )),
    }
}

//! The first seconds of a connection on the local socket: who is it?
//!
//! One framing, two roles: the HELLO says relay or subscriber. A peer that says nothing is dropped after five seconds, one that
//! speaks HTTP is told where the HTTP side is, and everything else that is wrong is answered with a GOODBYE in words.

use dichroic_wire::limits::HELLO_TIMEOUT;
use dichroic_wire::{ErrorKind, FrameReader, FrameType, Goodbye, GoodbyeCode, Hello, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A connection that has said who it is.
pub struct Greeted {
    /// What it said.
    pub hello: Hello,
    /// What it sent after that.
    pub leftover: Vec<u8>,
}

/// Reads the HELLO. `None`: the connection was refused, told why, and is done.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, pages: &str) -> Option<Greeted> {
    let refusal = match tokio::time::timeout(HELLO_TIMEOUT, read(stream)).await {
        Ok(Ok(greeted)) => return greeted,
        Ok(Err(Refusal::Http)) => {
            let body =
                format!("this socket speaks the dichroic framing; pages are at http://{pages}/metrics\n");
            let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length:";
            let _ = stream
                .write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())
                .await;
            return None;
        }
        Ok(Err(Refusal::Goodbye(code, words))) => Goodbye::new(code, 60_000, &words),
        Err(_) => Goodbye::new(GoodbyeCode::Timeout, 0, "no HELLO within 5 seconds"),
    };
    tracing::warn!(words = refusal.words, "local socket: a connection was refused");
    let mut frame = Vec::new();
    if refusal.write(&mut frame).is_ok() {
        let _ = stream.write_all(&frame).await;
    }
    None
}

enum Refusal {
    Http,
    Goodbye(GoodbyeCode, String),
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Greeted>, Refusal> {
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
            Some(Ok(hello)) => return accept(hello, &reader).map(Some),
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(n) => reader.push(&buffer[..n]),
        }
    }
}

fn accept(hello: Hello, reader: &FrameReader) -> Result<Greeted, Refusal> {
    match hello.role {
        Role::Relay | Role::Subscriber => Ok(Greeted {
            hello,
            leftover: reader.rest().to_vec(),
        }),
        role => Err(Refusal::Goodbye(
            GoodbyeCode::BadRequest,
            format!("role {role:?} is not served here; connect as relay or subscriber"),
        )),
    }
}

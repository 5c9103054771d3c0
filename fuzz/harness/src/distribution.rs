//! Bytes of a BEAM node: the handshake, terms, messages, and answers to calls.

use crate::input::Input;
use dichroic_beam_attach::attach::{presence, relay_status};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::cookie::Cookie;
use dichroic_beam_attach::discover::discover;
use dichroic_beam_attach::handshake::{Introduced, Length, shake};
use dichroic_beam_attach::term::{Term, decode};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Time limit of a call; an input ends earlier.
const LIMIT: Duration = Duration::from_secs(5);

/// A peer that sends these bytes and closes the connection. What it receives is discarded.
#[derive(Debug)]
struct Peer(Vec<u8>, usize);

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Peer(bytes, at) = &mut *self;
        let rest = &bytes[*at..];
        let read = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..read]);
        *at += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Options: which part reads the bytes.
pub fn distribution(data: &[u8]) {
    let mut input = Input(data);
    let part = input.byte() % 7;
    if part == 0 {
        return term(input.0);
    }
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(exchange(part, input.0)));
}

/// A decoded term is decoded again from its own encoding.
fn term(bytes: &[u8]) {
    let Ok((term, _)) = decode(bytes) else { return };
    let _ = term.to_string();
    let mut encoded = Vec::new();
    term.encode(&mut encoded);
    let (again, rest) = decode(&encoded).expect("an encoded term");
    assert!(rest.is_empty());
    let mut encoded_again = Vec::new();
    again.encode(&mut encoded_again);
    assert_eq!(encoded, encoded_again);
}

async fn exchange(part: u8, bytes: &[u8]) {
    let mut peer = Peer(bytes.to_vec(), 0);
    if part <= 2 {
        let length = if part == 1 { Length::Two } else { Length::Four };
        let cookie = Cookie::new(b"secret").expect("a cookie");
        let _ = shake(&mut peer, length, "host", &cookie).await;
        return;
    }
    let introduced = Introduced {
        own_name: "own@host".to_owned(),
        own_creation: 1,
        peer_name: "peer@host".to_owned(),
    };
    let mut node = Connection::established(Box::new(peer), true, introduced);
    match part {
        3 => {
            let _ = node.read_ticktime().await;
            let _ = node.call("m", "f", vec![Term::Int(1)], LIMIT).await;
        }
        4 => {
            let _ = node.monitor("name").await;
            while node.idle(Instant::now() + LIMIT).await.is_ok() {}
        }
        5 => {
            let _ = discover(&mut node, &[], Duration::ZERO).await;
        }
        _ => {
            let _ = presence(&mut node).await;
            let _ = relay_status(&mut node).await;
        }
    }
}

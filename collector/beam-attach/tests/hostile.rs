//! Arbitrary peers in place of a node: each gives an error with a reason, in time and without large allocations.

mod fake;

use dichroic_beam_attach::tls::Tls;
use fake::{COOKIE, NAME, connect, message, read, shake};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn error_text<F>(peer: impl FnOnce(TcpStream) -> F) -> String
where
    F: Future<Output = std::io::Result<()>>,
{
    connect(None, peer).await.unwrap_err().to_string()
}

async fn error_over_tls<F>(peer: impl FnOnce(TcpStream) -> F) -> String
where
    F: Future<Output = std::io::Result<()>>,
{
    // The private key of this CA was discarded.
    let ca_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ca.pem");
    let tls = Tls {
        ca_file,
        identity: None,
        server_name: None,
    };
    connect(Some(&tls), peer).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_peer_that_is_not_a_node_is_reported_as_such() {
    let http = error_text(async |mut s| s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    assert!(http.contains("not an Erlang node"), "{http}");
    let garbage = error_text(async |mut s| message(&mut s, &[0xff; 600]).await).await;
    assert!(garbage.contains("not an Erlang node"), "{garbage}");
    let closed = error_text(async |s| {
        drop(s);
        Ok(())
    })
    .await;
    assert!(
        closed.contains("closed the connection after") || closed.contains("reset"),
        "{closed}"
    );
    let refused = error_text(async |mut s| {
        read(&mut s).await?;
        message(&mut s, b"snot_allowed").await
    })
    .await;
    assert!(refused.contains("refuses"), "{refused}");
}

#[tokio::test]
async fn a_connection_closed_after_the_digest_is_reported_as_a_wrong_cookie() {
    let error_text = error_text(async |mut s| {
        read(&mut s).await?;
        message(&mut s, b"snamed:\x00\x0dabc@127.0.0.1\x00\x00\x00\x01").await?;
        let challenge =
            b"N\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x00\x00\x01\x00\x0efake@127.0.0.1";
        message(&mut s, challenge).await?;
        read(&mut s).await?;
        s.shutdown().await
    })
    .await;
    assert!(error_text.contains("does not accept the cookie"), "{error_text}");
}

#[tokio::test]
async fn a_peer_with_another_cookie_is_rejected_before_any_message() {
    let error_text = error_text(async |mut s| shake(&mut s, NAME, b"guess").await).await;
    assert!(error_text.contains("does not know the cookie"), "{error_text}");
}

#[tokio::test]
async fn another_node_at_the_port_is_rejected() {
    let error_text = error_text(async |mut s| shake(&mut s, b"other@127.0.0.1", COOKIE).await).await;
    assert!(
        error_text.contains("is other@127.0.0.1, not fake@127.0.0.1"),
        "{error_text}"
    );
}

#[tokio::test]
async fn oversized_and_invalid_messages_end_the_connection() {
    let check = async |frame: &'static [u8], expected: &str| {
        let error_text = error_text(async |mut s| {
            shake(&mut s, NAME, COOKIE).await?;
            s.write_all(frame).await?;
            // Reads until the connection is closed.
            let mut rest = Vec::new();
            s.read_to_end(&mut rest).await.map(|_| ())
        })
        .await;
        assert!(error_text.contains(expected), "{frame:?}: {error_text}");
    };
    check(b"\xff\xff\xff\xff", "limit").await;
    check(b"\x00\x00\x00\x02\x83\x44", "not negotiated").await;
    check(b"\x00\x00\x00\x03\x70\x83\xff", "unknown tag").await;
    check(b"\x00\x00\x00\x07\x70\x83\x69\xff\xff\xff\xff", "a term").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_times_out() {
    let start = tokio::time::Instant::now();
    let error_text = error_text(async |mut s| {
        let mut rest = Vec::new();
        s.read_to_end(&mut rest).await.map(|_| ())
    })
    .await;
    assert!(error_text.contains("no answer within"), "{error_text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_node_that_only_ticks_times_out() {
    let error_text = error_text(async |mut s| {
        shake(&mut s, NAME, COOKIE).await?;
        // The first call has arrived: the connection is established.
        s.read_u32().await?;
        tokio::time::pause();
        loop {
            s.write_all(&[0; 4]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert!(
        error_text.contains("get_net_ticktime on the node: no answer"),
        "{error_text}"
    );
}

#[tokio::test]
async fn a_peer_without_tls_is_reported_as_such() {
    let check = async |bytes: &'static [u8]| {
        let error_text = error_over_tls(async |mut s| {
            s.write_all(bytes).await?;
            s.shutdown().await
        })
        .await;
        assert!(
            error_text.contains("-proto_dist inet_tls"),
            "{bytes:?}: {error_text}"
        );
    };
    check(b"").await;
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    check(&[0xff; 600]).await;
    // The beginning of a record that never ends.
    check(b"\x16\x03\x03\x40\x00abc").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_silent_in_the_tls_handshake_times_out() {
    let start = tokio::time::Instant::now();
    let error_text = error_over_tls(async |mut s| {
        let mut rest = Vec::new();
        s.read_to_end(&mut rest).await.map(|_| ())
    })
    .await;
    assert!(error_text.contains("does not answer in TLS"), "{error_text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_tls_alert_instead_of_a_handshake_is_explained() {
    let check = async |alert: u8, expected: &str| {
        let error_text = error_over_tls(async move |mut s| {
            s.write_all(&[0x15, 3, 3, 0, 2, 2, alert]).await?;
            s.shutdown().await
        })
        .await;
        assert!(error_text.contains(expected), "{error_text}");
    };
    check(40, "HandshakeFailure").await;
    check(70, "TLS 1.2 or 1.3").await;
    let plain = error_text(async |mut s| s.write_all(&[0x15, 3, 3, 0, 2, 2, 10]).await).await;
    assert!(
        plain.contains("uses TLS for distribution") && plain.contains("--tls-ca"),
        "{plain}"
    );
}

#[tokio::test]
async fn endless_ticks_do_not_extend_the_time_limit() {
    let error_text = error_text(async |mut s| {
        shake(&mut s, NAME, COOKIE).await?;
        loop {
            s.write_all(&[0; 16_384]).await?;
        }
    })
    .await;
    assert!(error_text.contains("net_kernel:get_net_ticktime"), "{error_text}");
}

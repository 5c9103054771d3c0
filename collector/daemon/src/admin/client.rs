//! How commands reach a running collector: plain HTTP to its admin API.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 256 << 20;

/// Asks for a path. An answer that is not 2xx is an error in the collector's words.
pub async fn get(address: &str, path: &str) -> Result<Response<Incoming>, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| {
        format!("no collector at {address}: {e}; start one with `dichroic run`, or name its admin address with --admin")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    tokio::spawn(connection);
    let mut request = Request::get(path)
        .header("host", "localhost")
        .header("accept", "application/json");
    if let Some(token) = std::env::var("DICHROIC_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
    {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("{path}: {e}"))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|v| v["error"].as_str().map(str::to_owned));
    Err(format!(
        "{address}{path}: {status}: {}",
        message.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned())
    ))
}

/// Asks for a JSON document.
pub async fn document(address: &str, path: &str) -> Result<Value, String> {
    let mut body = get(address, path).await?.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("{address}{path}: {e}"))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() > MAX_DOCUMENT {
            return Err(format!(
                "{address}{path}: the answer is longer than {MAX_DOCUMENT} bytes"
            ));
        }
    }
    serde_json::from_slice(&bytes).map_err(|e| format!("{address}{path}: not JSON: {e}"))
}

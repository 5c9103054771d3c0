//! The HTTP client with which the commands call the admin API of a running collector.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use tokio::net::TcpStream;

/// Longest accepted document, in bytes.
const MAX_DOCUMENT: usize = 256 << 20;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection was not accepted.
    #[error(
        "no collector at {address}: {error}; start one with `dichroic run`, or set the address of its admin API with --admin"
    )]
    Connect {
        /// The address.
        address: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The path or the token contains characters that HTTP does not allow.
    #[error("{path}: {error}")]
    Request {
        /// The path.
        path: String,
        /// Why.
        #[source]
        error: hyper::http::Error,
    },
    /// The connection failed during the exchange.
    #[error("{address}: {error}")]
    Http {
        /// The address, and the path of a document.
        address: String,
        /// Why.
        #[source]
        error: hyper::Error,
    },
    /// The collector rejected what the user entered.
    #[error("{0}")]
    Rejected(String),
    /// A response other than 2xx.
    #[error("{address}{path}: {status}: {message}")]
    Status {
        /// The address.
        address: String,
        /// The path.
        path: String,
        /// The status.
        status: StatusCode,
        /// The collector's message.
        message: String,
    },
    /// More than [`MAX_DOCUMENT`].
    #[error("{0}: the response is longer than {MAX_DOCUMENT} bytes")]
    TooLong(String),
    /// Not a JSON document.
    #[error("{address}: invalid JSON: {error}")]
    Json {
        /// Address and path.
        address: String,
        /// Why.
        #[source]
        error: serde_json::Error,
    },
}

impl ClientError {
    /// The error of a request that contains what the user entered: if it is rejected, the message alone states why.
    pub fn of_request(self) -> Self {
        match self {
            ClientError::Status { status, message, .. } if status == StatusCode::BAD_REQUEST => {
                ClientError::Rejected(message)
            }
            error => error,
        }
    }
}

/// Requests a path. A response other than 2xx is an error that contains the message of the collector.
pub async fn get(address: &str, path: &str) -> Result<Response<Incoming>, ClientError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| ClientError::Connect {
            address: address.to_owned(),
            error,
        })?;
    let http = |error| ClientError::Http {
        address: address.to_owned(),
        error,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
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
        .map_err(|error| ClientError::Request {
            path: path.to_owned(),
            error,
        })?;
    let response = sender.send_request(request).await.map_err(http)?;
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
    Err(ClientError::Status {
        address: address.to_owned(),
        path: path.to_owned(),
        status,
        message: message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned()),
    })
}

/// Requests a JSON document.
pub async fn document(address: &str, path: &str) -> Result<Value, ClientError> {
    let mut body = get(address, path).await?.into_body();
    let address = format!("{address}{path}");
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Err(ClientError::Http { address, error }),
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() > MAX_DOCUMENT {
            return Err(ClientError::TooLong(address));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Json { address, error })
}

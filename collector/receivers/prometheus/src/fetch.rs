//! One GET, bounded: the whole exchange by the target's timeout, the body by its size limit before and after inflating.
//!
//! A connection is kept between scrapes while the target keeps it too. After any error it is closed, so that a body that
//! streams for ever ends with its scrape.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::ScrapeTarget;

/// What a target is asked for, as Prometheus asks: OpenMetrics if it can, then text, then anything.
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
     application/openmetrics-text;version=0.0.1;q=0.5,\
     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("cannot connect to {address}: {problem}; is the target running, and the address right?")]
    Connect { address: String, problem: String },
    #[error("no complete answer within {millis} ms; raise scrape_timeout, or make the page cheaper")]
    Timeout { millis: u128 },
    #[error("the target does not speak HTTP as it should: {0}")]
    Http(String),
    #[error("the target answers {0}; check metrics_path")]
    Status(StatusCode),
    #[error("the page is larger than {limit} bytes; raise body_size_limit, or let the target expose less")]
    TooLarge { limit: usize },
    #[error("the page is compressed with {0:?}, which was not asked for; let the target use gzip or nothing")]
    Encoding(String),
    #[error("the page cannot be inflated: {0}; the target's gzip is broken")]
    Gzip(String),
}

/// The one connection to a target.
#[derive(Debug, Default)]
pub struct Client {
    connection: Option<Connection>,
    /// A compressed body, before it is inflated.
    packed: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Fetches the page into `body`, which is cleared first, and returns its content type. Must run in a `LocalSet`.
    pub async fn get(
        &mut self,
        target: &ScrapeTarget,
        body: &mut Vec<u8>,
    ) -> Result<Option<String>, FetchError> {
        let mut connection = self.connection.take();
        let exchange = self.exchange(target, &mut connection, body);
        let result = match tokio::time::timeout(target.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout {
                millis: target.timeout.as_millis(),
            }),
        };
        if result.is_ok() {
            self.connection = connection;
        }
        result
    }

    async fn exchange(
        &mut self,
        target: &ScrapeTarget,
        connection: &mut Option<Connection>,
        body: &mut Vec<u8>,
    ) -> Result<Option<String>, FetchError> {
        let response = request(target, connection).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value: &header::HeaderValue| value.to_str().ok())
        };
        let content_type = text(header::CONTENT_TYPE).map(str::to_owned);
        let encoding = text(header::CONTENT_ENCODING)
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match encoding.as_str() {
            "" | "identity" => read(response, body, target.body_bytes).await?,
            "gzip" | "x-gzip" => {
                read(response, &mut self.packed, target.body_bytes).await?;
                inflate(&self.packed, body, target.body_bytes)?;
                self.packed.shrink_to(self.packed.len() * 2);
            }
            _ => return Err(FetchError::Encoding(encoding.chars().take(40).collect())),
        }
        Ok(content_type)
    }
}

/// Sends the request over the kept connection, or over a new one if there is none or it was closed meanwhile.
async fn request(
    target: &ScrapeTarget,
    kept: &mut Option<Connection>,
) -> Result<Response<Incoming>, FetchError> {
    let request = || {
        let mut request = Request::get(target.path.as_str())
            .header(header::HOST, target.authority())
            .header(header::ACCEPT, ACCEPT)
            .header(
                header::USER_AGENT,
                concat!("dichroic/", env!("CARGO_PKG_VERSION")),
            )
            .header(
                "X-Prometheus-Scrape-Timeout-Seconds",
                target.timeout.as_secs_f64().to_string(),
            );
        if target.compression {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        request
            .body(Empty::new())
            .map_err(|error| FetchError::Http(error.to_string()))
    };
    if let Some(connection) = kept
        && connection.sender.ready().await.is_ok()
        && let Ok(response) = connection.sender.send_request(request()?).await
    {
        return Ok(response);
    }
    let connection = kept.insert(connect(target).await?);
    connection
        .sender
        .send_request(request()?)
        .await
        .map_err(|error| FetchError::Http(error.to_string()))
}

async fn connect(target: &ScrapeTarget) -> Result<Connection, FetchError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|error| FetchError::Connect {
            address: target.authority(),
            problem: error.to_string(),
        })?;
    let _ = stream.set_nodelay(true); // without it a scrape is slower, not wrong
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| FetchError::Http(error.to_string()))?;
    let driver = tokio::task::spawn_local(async move {
        let _ = connection.await; // its error reaches the sender
    });
    Ok(Connection { sender, driver })
}

async fn read(response: Response<Incoming>, body: &mut Vec<u8>, limit: usize) -> Result<(), FetchError> {
    body.clear();
    let mut incoming = response.into_body();
    if hyper::body::Body::size_hint(&incoming).lower() > limit as u64 {
        return Err(FetchError::TooLarge { limit });
    }
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| FetchError::Http(error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            if body.len() + data.len() > limit {
                return Err(FetchError::TooLarge { limit });
            }
            body.extend_from_slice(data);
        }
    }
    Ok(())
}

/// Inflates into a buffer that never grows beyond `limit`. The length that gzip ends with is only a first guess.
fn inflate(packed: &[u8], body: &mut Vec<u8>, limit: usize) -> Result<(), FetchError> {
    let said = packed
        .last_chunk::<4>()
        .map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut room = said.clamp(4 << 10, 1 << 20).min(limit);
    let mut decompressor = libdeflater::Decompressor::new();
    loop {
        body.resize(room, 0);
        match decompressor.gzip_decompress(packed, body) {
            Ok(length) => {
                body.truncate(length);
                return Ok(());
            }
            Err(libdeflater::DecompressionError::InsufficientSpace) if room < limit => {
                room = (room * 4).min(limit)
            }
            Err(libdeflater::DecompressionError::InsufficientSpace) => {
                return Err(FetchError::TooLarge { limit });
            }
            Err(error) => return Err(FetchError::Gzip(error.to_string())),
        }
    }
}

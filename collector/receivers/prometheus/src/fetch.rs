//! One bounded GET: the target's timeout limits the whole exchange, its size limit the body before and after decompression.
//!
//! A connection is reused by the next scrape if the target keeps it open. After any error it is closed, so that an endless body
//! ends with its scrape.

use bytes::Bytes;
use dichroic_tasks::Kind;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::ScrapeTarget;
use dichroic_pipeline::budget::{Budget, Part, Reservation};

/// Why a page could not be fetched. Messages end with what to check or change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The TCP connection failed.
    #[error(
        "cannot connect to {address}: {problem}; check that the target is running and its address is right"
    )]
    Connect {
        /// `host:port`.
        address: String,
        /// The operating system's error.
        problem: String,
    },
    /// The exchange took longer than `scrape_timeout`.
    #[error("no complete response within {millis} ms; raise scrape_timeout, or make the page faster")]
    Timeout {
        /// The timeout in milliseconds.
        millis: u128,
    },
    /// The response is not valid HTTP.
    #[error("invalid HTTP response: {0}; check that an HTTP server listens on this port")]
    Http(String),
    /// A status other than 200.
    #[error("HTTP status {0}; check metrics_path")]
    Status(StatusCode),
    /// The page is over `body_size_limit`.
    #[error("page larger than {limit} bytes; raise body_size_limit, or reduce the page")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The memory budget of data in flight has no room for the page.
    #[error("no memory for {bytes} bytes of the page; raise limits.in_flight, or reduce the pages")]
    Memory {
        /// Bytes that were needed.
        bytes: usize,
    },
    /// An unsupported `Content-Encoding`.
    #[error("unsupported Content-Encoding {0:?}; the target must use gzip or no compression")]
    Encoding(String),
    /// The gzip data is invalid.
    #[error("invalid gzip data in the page: {0}; check the target's compression")]
    Gzip(String),
}

/// An HTTP client with at most one connection to a target.
#[derive(Debug)]
pub struct Client {
    connection: Option<Connection>,
    /// Memory of the body, while a scrape lasts.
    memory: Reservation,
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
    /// A client without a connection; bodies are reserved in `budget`.
    pub fn new(budget: &Budget) -> Self {
        Client {
            connection: None,
            memory: budget.reserve_nothing(Part::ScrapeBodies),
        }
    }

    /// Returns the memory of the last body, which the caller has released.
    pub fn released(&mut self) {
        self.memory.shrink(usize::MAX);
    }

    /// Fetches the page into `body`, which is cleared first, and returns its content type. Must run in a `LocalSet`.
    ///
    /// # Errors
    /// [`FetchError`]: the content of `body` is then unspecified.
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
            "" | "identity" => read(response, body, target.body_bytes, &mut self.memory).await?,
            "gzip" | "x-gzip" => {
                let mut packed = Vec::new();
                read(response, &mut packed, target.body_bytes, &mut self.memory).await?;
                inflate(&packed, body, target.body_bytes, &mut self.memory)?;
                self.memory.shrink(packed.capacity());
            }
            _ => return Err(FetchError::Encoding(encoding.chars().take(40).collect())),
        }
        Ok(content_type)
    }
}

/// Sends the request over the kept connection, or over a new one if there is none or it was closed.
async fn request(
    target: &ScrapeTarget,
    kept: &mut Option<Connection>,
) -> Result<Response<Incoming>, FetchError> {
    let request = || {
        let mut request = Request::get(target.path.as_str())
            .header(header::HOST, target.authority())
            .header(header::ACCEPT, &target.accept)
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
    let _ = stream.set_nodelay(true); // without it a scrape is only slower
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| FetchError::Http(error.to_string()))?;
    let driver = dichroic_tasks::contained(Kind::ScrapeConnection, async move {
        let _ = connection.await; // the sender returns its error
    });
    Ok(Connection { sender, driver })
}

async fn read(
    response: Response<Incoming>,
    body: &mut Vec<u8>,
    limit: usize,
    memory: &mut Reservation,
) -> Result<(), FetchError> {
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
            let needed = body.len() + data.len();
            if needed > body.capacity() {
                // Of its own, the buffer would grow before it is reserved.
                let room = needed.max(body.capacity() * 2).min(limit.max(needed));
                reserve(memory, room - body.capacity())?;
                body.reserve_exact(room - body.len());
            }
            body.extend_from_slice(data);
        }
    }
    Ok(())
}

fn reserve(memory: &mut Reservation, bytes: usize) -> Result<(), FetchError> {
    if memory.try_grow(bytes) {
        return Ok(());
    }
    Err(FetchError::Memory { bytes })
}

/// Decompresses into a buffer of at most `limit` bytes. The length in gzip's trailer is only a first guess.
fn inflate(
    packed: &[u8],
    body: &mut Vec<u8>,
    limit: usize,
    memory: &mut Reservation,
) -> Result<(), FetchError> {
    let stated = packed
        .last_chunk::<4>()
        .map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut room = stated.clamp(4 << 10, 1 << 20).min(limit);
    let mut decompressor = libdeflater::Decompressor::new();
    loop {
        if room > body.capacity() {
            reserve(memory, room - body.capacity())?;
            body.clear();
            body.reserve_exact(room);
        }
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

//! Binds the TCP address of a configuration key.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {error}; set {key} to another address")]
pub struct BindError {
    /// The configuration key of the address.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub error: io::Error,
}

/// Binds `address`; the error names `key`.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| BindError { key, address, error })
}

//! The receiver as the daemon uses it.

use crate::config::Config;
use crate::registry::Registry;
use crate::session;
use crate::status::{RelayStatus, StatusBoard};
use dichroic_pipeline::Core;
use dichroic_wire::Hello;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// The receiver of relays. Cheap to clone; lives on the ingest thread.
#[derive(Clone)]
pub struct Receiver(Registry);

impl Receiver {
    /// A receiver with no relays yet.
    pub fn new(config: Config) -> Self {
        Receiver(Registry::new(config))
    }

    /// Serves one relay until its connection ends. `hello` was read by the listener, `read_ahead` are the bytes that followed it.
    /// Runs on the thread that owns the store.
    pub async fn serve_relay<IO>(&self, io: IO, hello: Hello, read_ahead: &[u8], store: Rc<RefCell<Core>>)
    where
        IO: AsyncRead + AsyncWrite,
    {
        session::run(self.0.clone(), io, hello, read_ahead, store).await;
    }

    /// Replaces packs, definitions and limits. Connected relays get a new plan within [`Config::check_every`]; entries that did not
    /// change keep their totals.
    pub fn reload(&self, config: Config) {
        self.0.reload(config);
    }

    /// Requests a last flush from every relay and waits for them, at most twice [`Config::goodbye_timeout`]. No relay is accepted
    /// from then on.
    pub async fn shutdown(&self) {
        self.0.shutdown().await;
    }

    /// Relays connected, and those that disconnected a short while ago.
    pub fn status(&self) -> Vec<RelayStatus> {
        self.board().read()
    }

    /// The status of all relays, readable from any thread. At most a second old.
    pub fn board(&self) -> StatusBoard {
        self.0.board()
    }

    /// Relays connected at present.
    pub fn connected(&self) -> usize {
        self.0.connected()
    }
}

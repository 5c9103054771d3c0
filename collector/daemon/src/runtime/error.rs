//! Errors of `dichroic run`.

use crate::cli::{INVALID_CONFIG, PANICKED};
use crate::config::error::ConfigError;
use crate::config::violation::Violation;
use crate::listen::{local_socket, tcp};
use dichroic_receiver_otlp as otlp;
use dichroic_receiver_prometheus::config::ConfigError as TargetError;
use dichroic_tasks::Kind;
use std::io;
use std::path::PathBuf;

/// Printed on standard error before the process exits.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration file.
    #[error("{}", .0.report())]
    InvalidConfig(Box<ConfigError>),
    /// A target to scrape.
    #[error(transparent)]
    InvalidTarget(TargetError),
    /// The collector would scrape itself, or export to itself.
    #[error(transparent)]
    Itself(Violation),
    /// A value that passes the checks of the configuration but cannot be used.
    #[error("{0}")]
    Config(String),
    /// A thread, an async runtime or a signal handler could not be set up.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// A port of the OTLP receiver.
    #[error(transparent)]
    Otlp(#[from] otlp::BindError),
    /// The local socket.
    #[error(transparent)]
    LocalSocket(#[from] local_socket::NoLocalSocket),
    /// A port of the page, the admin API or `security.local_tcp`.
    #[error(transparent)]
    Listen(#[from] tcp::BindError),
    /// The file of `--ready-file`.
    #[error("cannot write the ready file {}: {error}", path.display())]
    ReadyFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be written.
        #[source]
        error: io::Error,
    },
    /// Standard output, where the endpoints are printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The ingest thread ended during its start, without an error.
    #[error("the ingest thread ended during its start; this is a bug, please report it")]
    IngestThreadEnded,
    /// The ingest thread did not end.
    #[error("the ingest thread did not stop in time; this is a bug, please report it")]
    IngestThreadStuck,
    /// An essential task; the panic is in the log.
    #[error("the task {0} panicked; this is a bug, please report it with the log")]
    TaskPanicked(Kind),
}

impl RunError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::InvalidConfig(_) | RunError::InvalidTarget(_) | RunError::Itself(_) => INVALID_CONFIG,
            RunError::IngestThreadEnded | RunError::IngestThreadStuck | RunError::TaskPanicked(_) => PANICKED,
            _ => 1,
        }
    }
}

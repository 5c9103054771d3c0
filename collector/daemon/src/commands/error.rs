//! Why a command failed, and its exit code.

use super::destination::DestinationError;
use super::output::OutputError;
use crate::admin::client::ClientError;
use crate::cli::INVALID_CONFIG;
use crate::config::error::ConfigError;
use dichroic_model::text::plural;
use std::io;
use std::path::PathBuf;

/// The error of a command, as it is printed on standard error.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Standard output.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Arguments that exclude each other.
    #[error("{0}")]
    Usage(&'static str),
    /// The async runtime or a signal handler could not be set up.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// A request to the collector.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The stream of `tap`.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A call on a node.
    #[error(transparent)]
    Node(#[from] dichroic_beam_attach::Error),
    /// The collector that an attached relay connects to.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// `attach` or `detach`.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// `check`: the configuration is invalid.
    #[error("{}", .0.report())]
    InvalidConfig(Box<ConfigError>),
    /// `check --print`: the configuration cannot be written as YAML.
    #[error("cannot print the configuration: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// `man`: a page cannot be written.
    #[error("cannot write the manual pages to {}: {}", .0.display(), .1)]
    Manual(PathBuf, #[source] io::Error),
    /// `ledger --check`.
    #[error("the ledger does not balance; the accounts with a difference are marked above")]
    Unbalanced,
    /// `lint --strict`.
    #[error("--strict: {}", plural(*.0, "warning"))]
    Warnings(u64),
}

impl CommandError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::InvalidConfig(_) => INVALID_CONFIG,
            CommandError::Usage(_) => 2,
            CommandError::Output(error) if error.is_broken_pipe() => 0,
            _ => 1,
        }
    }

    /// The message for standard error; `None` when the reader of standard output closed the pipe.
    pub fn message(&self) -> Option<String> {
        match self {
            CommandError::Output(error) if error.is_broken_pipe() => None,
            error => Some(error.to_string()),
        }
    }
}

/// Why a node could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// `detach`: no relay on the node.
    #[error("{0} is not attached")]
    NotAttached(String),
    /// `detach`: the relay is part of the application.
    #[error("{0} runs the relay as part of its application; detach removes attached relays only")]
    Installed(String),
    /// `attach`: another process guards the relay of the node.
    #[error(
        "{node} is already attached to {destination} by {guardian}; to replace that, run `dichroic detach {node}` first"
    )]
    AlreadyAttached {
        /// Name of the node.
        node: String,
        /// Where its relay sends.
        destination: String,
        /// Name of the guardian's connection.
        guardian: String,
    },
    /// `attach`: the relay does not connect to the collector.
    #[error("{0}")]
    Unreachable(String),
    /// `attach`: the connection to the node failed later.
    #[error("{node}: {error}")]
    Watch {
        /// Name of the node.
        node: String,
        /// Why.
        #[source]
        error: dichroic_beam_attach::Error,
    },
    /// `attach`: failed, and the relay was removed.
    #[error("{error}\n{node}: the relay was removed")]
    Removed {
        /// Name of the node.
        node: String,
        /// Why.
        #[source]
        error: Box<CommandError>,
    },
    /// Processes of the node execute code of the relay.
    #[error(
        "{node}: detached, but processes of the application still execute {modules}; the old code stays loaded until they return from it"
    )]
    CodeInUse {
        /// Name of the node.
        node: String,
        /// Names of the modules.
        modules: String,
    },
}

/// Why the stream of `tap` ended before the limit of rows.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection failed.
    #[error("the connection to the collector failed: {0}")]
    Connection(#[source] hyper::Error),
    /// Longer than the limit, in bytes.
    #[error("the collector sent a line longer than {0} bytes")]
    LineTooLong(usize),
    /// Not JSON.
    #[error("the collector sent a line that is not JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// The collector closed the stream, with the message of its GOODBYE if it sent one.
    #[error("the collector closed the stream{}", .0.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Closed(Option<String>),
}

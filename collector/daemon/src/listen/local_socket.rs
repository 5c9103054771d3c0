//! The local socket of relays and subscribers: its path, its permissions, and the detection of a stale socket file.
//!
//! A lock file beside the socket is locked while the collector runs. A socket file whose lock is free is left from a crash and is
//! replaced; one whose lock is taken belongs to another collector, and the start fails. [`directory`] keeps other users out.

use crate::config::types::LocalSocket;
use crate::listen::directory::{self, Identity, Unsafe};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// A bound socket. Dropping it removes the files.
pub struct Bound {
    pub listener: UnixListener,
    pub path: PathBuf,
    allow: Vec<u32>,
    identity: Identity,
    _lock: File,
}

/// Paths to try, in order. Relays and subscribers try the same list.
pub fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    if let Some(path) = from_variable() {
        return vec![path];
    }
    let mut paths = vec![PathBuf::from("/run/dichroic/dichroic.sock")];
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        paths.push(Path::new(&dir).join("dichroic.sock"));
    }
    paths.push(PathBuf::from(format!(
        "/tmp/dichroic-{}/dichroic.sock",
        own_uid()
    )));
    paths
}

fn from_variable() -> Option<PathBuf> {
    let path = std::env::var_os("DICHROIC_SOCKET")?;
    (!path.is_empty()).then(|| path.into())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// No candidate could be bound.
#[derive(Debug, thiserror::Error)]
#[error("no local socket: {}; {}", listed(.tried), if *.variable { OTHER_VARIABLE } else { "set security.local_socket.path" })]
pub struct NoLocalSocket {
    tried: Vec<(PathBuf, CandidateError)>,
    /// The path is that of the variable.
    variable: bool,
}

const OTHER_VARIABLE: &str =
    "the path is that of the variable DICHROIC_SOCKET: change it, or set security.local_socket.path";

/// Why one candidate could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// Its lock is taken.
    #[error("another collector runs there")]
    InUse,
    /// Another user could take its place, or what is there is not ours.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// A system call failed.
    #[error("{step}: {error}")]
    Io {
        /// What was attempted.
        step: &'static str,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
}

fn listed(tried: &[(PathBuf, CandidateError)]) -> String {
    let each: Vec<String> = tried
        .iter()
        .map(|(path, error)| format!("{}: {error}", path.display()))
        .collect();
    each.join("; ")
}

/// Binds the first usable candidate.
pub fn bind(config: &LocalSocket) -> Result<Bound, NoLocalSocket> {
    let mut tried = Vec::new();
    for path in candidates(config.path.as_deref()) {
        let error = match bind_at(&path, config) {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        // Relays connect to the first collector in the list; they would never find a second one.
        let in_use = matches!(
            error,
            CandidateError::InUse | CandidateError::Unsafe(Unsafe::InUse)
        );
        tried.push((path, error));
        if in_use {
            break;
        }
    }
    let variable = config.path.is_none() && from_variable().is_some();
    Err(NoLocalSocket { tried, variable })
}

fn io_error(step: &'static str) -> impl Fn(io::Error) -> CandidateError {
    move |error| CandidateError::Io { step, error }
}

fn bind_at(path: &Path, config: &LocalSocket) -> Result<Bound, CandidateError> {
    let mode = u32::from_str_radix(&config.mode, 8).unwrap_or(0o600);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    directory::prepare(dir.unwrap_or(Path::new(".")), mode, config.group)?;
    let lock = directory::open_lock(&path.with_extension("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| CandidateError::InUse)?;
    directory::remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(io_error("bind"))?;
    let identity = Identity::of(path).map_err(io_error("bind"))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io_error("mode"))?;
    if let Some(group) = config.group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(io_error("group"))?;
    }
    let mut allow = config.allow_uids.clone();
    allow.extend([0, own_uid()]);
    Ok(Bound {
        listener,
        path: path.to_owned(),
        allow,
        identity,
        _lock: lock,
    })
}

impl Bound {
    /// The next connection, and why its user is not allowed; that is logged here and answered by the caller.
    pub async fn accept(&self) -> io::Result<(UnixStream, Option<String>)> {
        let (stream, _) = self.listener.accept().await?;
        let refusal = match stream.peer_cred() {
            Ok(peer) if self.allow.contains(&peer.uid()) => None,
            Ok(peer) => {
                tracing::warn!(
                    listener = "local_socket",
                    uid = peer.uid(),
                    pid = peer.pid(),
                    reason = "user not in security.local_socket.allow_uids",
                    help = "to allow the user, add this uid to security.local_socket.allow_uids and restart",
                    "refused a connection"
                );
                Some(format!(
                    "user {} is not in security.local_socket.allow_uids",
                    peer.uid()
                ))
            }
            Err(error) => {
                tracing::warn!(
                    listener = "local_socket",
                    %error,
                    reason = "cannot read the user of the peer",
                    "refused a connection"
                );
                Some("cannot read the user of the peer".to_owned())
            }
        };
        Ok((stream, refusal))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The lock file is kept: if it were removed, two collectors could each lock a file of this name.
        self.identity.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path) -> LocalSocket {
        LocalSocket {
            path: Some(path.to_owned()),
            ..LocalSocket::default()
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dichroic-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir.join("d.sock")
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = scratch("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = bind(&config(&path)).unwrap();
        let error = bind(&config(&path)).err().unwrap().to_string();
        assert!(
            error.contains("another collector") && error.contains("security.local_socket.path"),
            "{error}"
        );
        drop(first);
        assert!(!path.exists());
        drop(bind(&config(&path)).unwrap());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn an_unusable_path_is_reported_with_where_it_was_set() {
        let error = |variable| {
            let tried = vec![(
                PathBuf::from("/nope/f.sock"),
                CandidateError::Unsafe(Unsafe::NotASocket),
            )];
            NoLocalSocket { tried, variable }.to_string()
        };
        assert_eq!(
            error(false),
            "no local socket: /nope/f.sock: exists and is not a socket; remove it; set security.local_socket.path"
        );
        assert!(
            error(true).contains("the variable DICHROIC_SOCKET: change it"),
            "{}",
            error(true)
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_kept() {
        let path = scratch("file");
        fs::write(&path, b"precious").unwrap();
        let error = bind(&config(&path)).err().unwrap().to_string();
        assert!(error.contains("exists and is not a socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn by_default_only_the_owner_can_open_the_socket() {
        let path = scratch("mode");
        let bound = bind(&config(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = UnixStream::connect(&path);
        let (client, server) = tokio::join!(client, bound.accept());
        assert!(client.is_ok() && server.unwrap().1.is_none());
        drop(bound);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}

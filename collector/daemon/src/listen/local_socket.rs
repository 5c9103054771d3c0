//! The local socket of relays and subscribers: where it is, who may connect, and how a stale one is told from a live one.
//!
//! A lock file beside the socket is held for as long as we run. Whoever holds it owns the socket: a socket file without a holder
//! is left over from a crash and is replaced; one with a holder is another collector, and we refuse to start.

use crate::config::LocalSocket;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// A bound socket. Dropping it removes the files.
pub struct Bound {
    pub listener: UnixListener,
    pub path: PathBuf,
    allow: Vec<u32>,
    _lock: File,
}

/// Places to try, in order. Relays and subscribers probe the same list.
pub fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    if let Some(path) = std::env::var_os("DICHROIC_SOCKET").filter(|p| !p.is_empty()) {
        return vec![path.into()];
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

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Binds the first place that can be had. The error names every place and the key to set.
pub fn bind(config: &LocalSocket) -> Result<Bound, String> {
    let mut tried = Vec::new();
    for path in candidates(config.path.as_deref()) {
        match bind_at(&path, config) {
            Ok(bound) => return Ok(bound),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
        // Where a collector already runs, a second one must not hide at the next place of the list.
        if tried.last().is_some_and(|e| e.contains(IN_USE)) {
            break;
        }
    }
    Err(format!(
        "no local socket: {}; set security.local_socket.path",
        tried.join("; ")
    ))
}

const IN_USE: &str = "another collector runs there";

fn bind_at(path: &Path, config: &LocalSocket) -> Result<Bound, String> {
    let message = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    make_directory(path.parent().unwrap_or(Path::new(".")))?;
    let lock_path = path.with_extension("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(message("lock file"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| IN_USE.to_owned())?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(format!("stale socket: {e}")),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(message("bind"))?;
    let mode = u32::from_str_radix(&config.mode, 8).unwrap_or(0o600);
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(message("mode"))?;
    if let Some(group) = config.group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(message("group"))?;
    }
    let mut allow = config.allow_uids.clone();
    allow.extend([0, own_uid()]);
    Ok(Bound {
        listener,
        path: path.to_owned(),
        allow,
        _lock: lock,
    })
}

/// Makes the directory, ours alone, or checks that nobody else can plant a socket in it.
fn make_directory(dir: &Path) -> Result<(), String> {
    if !dir.exists() {
        // `/run/dichroic` is for root and for service managers to make; a made one is private.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(dir)
            .map_err(|e| format!("directory: {e}"))?;
        if dir.starts_with("/tmp") {
            fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|e| format!("directory: {e}"))?;
        }
        return Ok(());
    }
    let meta = fs::symlink_metadata(dir).map_err(|e| format!("directory: {e}"))?;
    use std::os::unix::fs::MetadataExt;
    let in_tmp = dir.starts_with("/tmp") && dir != Path::new("/tmp");
    if in_tmp && dir.parent() == Some(Path::new("/tmp")) && (meta.is_symlink() || meta.uid() != own_uid()) {
        return Err(format!("directory {} belongs to another user", dir.display()));
    }
    Ok(())
}

impl Bound {
    /// The next connection. `None`: its user may not speak to us; it is closed and named in the log.
    pub async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        match stream.peer_cred() {
            Ok(peer) if self.allow.contains(&peer.uid()) => return Ok(Some(stream)),
            Ok(peer) => tracing::warn!(
                uid = peer.uid(),
                "local socket: refused a user; add it to security.local_socket.allow_uids"
            ),
            Err(error) => tracing::warn!(%error, "local socket: a peer without credentials"),
        }
        Ok(None)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two collectors hold locks on two files of one name.
        let _ = fs::remove_file(&self.path);
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
        fs::write(&path, b"").unwrap();
        let first = bind(&config(&path)).unwrap();
        let error = bind(&config(&path)).err().unwrap();
        assert!(
            error.contains("another collector") && error.contains("security.local_socket.path"),
            "{error}"
        );
        drop(first);
        assert!(!path.exists());
        drop(bind(&config(&path)).unwrap());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn only_its_owner_may_open_it_by_default() {
        let path = scratch("mode");
        let bound = bind(&config(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = UnixStream::connect(&path);
        let (client, server) = tokio::join!(client, bound.accept());
        assert!(client.is_ok() && server.unwrap().is_some());
        drop(bound);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}

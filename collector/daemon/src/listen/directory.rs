//! Files beside which no other user may put theirs: the directory of the local socket, its lock file, and sockets of earlier runs.

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHER_WRITE: u32 = 0o002;

/// Why a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unsafe {
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its owner could replace the socket.
    #[error("directory {} belongs to user {uid}, who could replace the socket; use a directory of your own", .path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Others could replace the socket.
    #[error("directory {} has mode {mode:04o}, so that other users could replace the socket; run chmod {} {}, or use a directory below it", .path.display(), if *.mode & OTHER_WRITE > 0 { "o-w" } else { "g-w" }, .path.display())]
    WritableDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A link, a device or a file of another user in place of the lock file.
    #[error("{} is not a lock file of this user; remove it", .0.display())]
    ForeignLock(PathBuf),
    /// A file that is not a socket; it is kept.
    #[error("exists and is not a socket; remove it")]
    NotASocket,
    /// A socket of another user; it is kept.
    #[error("is a socket of user {0}; remove it")]
    ForeignSocket(u32),
    /// A socket on which a program listens that is not a collector.
    #[error("another program listens there")]
    InUse,
}

/// Creates the directory for a socket of this mode and group, or checks that no other user can replace a file in it. Parents of the
/// directory are not checked.
pub fn prepare(dir: &Path, mode: u32, group: Option<u32>) -> Result<(), Unsafe> {
    if !dir.exists() {
        // Each class that may use the socket may search the directory.
        let group_may = if mode & 0o060 == 0 { 0 } else { 0o010 };
        let others_may = if mode & 0o006 == 0 { 0 } else { 0o001 };
        let search = 0o700 | group_may | others_may;
        DirBuilder::new().mode(0o700).create(dir)?;
        if let Some(group) = group {
            chown(dir, None, Some(group))?;
        }
        std::fs::set_permissions(dir, Permissions::from_mode(search))?;
    }
    let meta = std::fs::metadata(dir)?;
    if !meta.is_dir() {
        return Err(Unsafe::NotADirectory(dir.to_owned()));
    }
    // The owner of a link can let it point elsewhere.
    let owners = [std::fs::symlink_metadata(dir)?.uid(), meta.uid()];
    if let Some(&uid) = owners.iter().find(|uid| !is_trusted(**uid)) {
        return Err(Unsafe::ForeignDirectory {
            path: dir.to_owned(),
            uid,
        });
    }
    let own_group = meta.gid() == getegid().as_raw() || group == Some(meta.gid());
    let writable = meta.mode() & OTHER_WRITE > 0 || meta.mode() & GROUP_WRITE > 0 && !own_group;
    match writable && meta.mode() & STICKY == 0 {
        true => Err(Unsafe::WritableDirectory {
            path: dir.to_owned(),
            mode: meta.mode() & 0o7777,
        }),
        false => Ok(()),
    }
}

/// Opens a lock file that no other user can open, and so lock.
pub fn open_lock(path: &Path) -> Result<File, Unsafe> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path);
    let foreign = || Unsafe::ForeignLock(path.to_owned());
    let lock = opened.map_err(|error| match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => foreign(),
        _ => error.into(),
    })?;
    let meta = lock.metadata()?;
    if !meta.is_file() || !is_own(&meta) {
        return Err(foreign());
    }
    if meta.mode() & 0o177 > 0 {
        lock.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(lock)
}

/// Removes the socket that an earlier run of this user has left. Anything else is kept.
pub fn remove_stale(path: &Path) -> Result<(), Unsafe> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => Err(Unsafe::NotASocket),
        Ok(meta) if !is_own(&meta) => Err(Unsafe::ForeignSocket(meta.uid())),
        // Its lock is ours, so no collector listens there.
        Ok(_) if UnixStream::connect(path).is_ok() => Err(Unsafe::InUse),
        Ok(_) => Ok(std::fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that was created by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of the file at a path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::symlink_metadata(path)?;
        Ok(Identity {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Removes the file, unless another one has taken its path.
    pub fn remove(self, path: &Path) {
        if Identity::of(path).is_ok_and(|now| now == self) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_own(meta: &Metadata) -> bool {
    meta.uid() == geteuid().as_raw()
}

fn is_trusted(uid: u32) -> bool {
    uid == ROOT || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dichroic-directory-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn a_directory_that_others_can_write_to_needs_the_sticky_bit() {
        let dir = scratch("mode");
        let check = |mode: u32, good: bool| {
            std::fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
            let prepared = prepare(&dir, 0o600, None);
            assert_eq!(prepared.is_ok(), good, "{mode:o} {prepared:?}");
        };
        check(0o700, true);
        check(0o755, true);
        check(0o777, false);
        check(0o702, false);
        check(0o1777, true);
        std::fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        let error = prepare(&dir, 0o600, None).unwrap_err().to_string();
        assert!(
            error.contains("mode 0777") && error.contains("chmod o-w"),
            "{error}"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_new_directory_admits_those_who_may_use_the_socket() {
        let parent = scratch("new");
        let check = |mode: u32, expected: u32| {
            let dir = parent.join(format!("{mode:o}"));
            prepare(&dir, mode, None).unwrap();
            assert_eq!(
                std::fs::metadata(&dir).unwrap().mode() & 0o777,
                expected,
                "{mode:o}"
            );
        };
        check(0o600, 0o700);
        check(0o660, 0o710);
        check(0o666, 0o711);
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_lock_is_private_and_never_a_link() {
        let dir = scratch("lock");
        let (lock, link) = (dir.join("d.lock"), dir.join("l.lock"));
        drop(open_lock(&lock).unwrap());
        let mode = || std::fs::metadata(&lock).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
        drop(open_lock(&lock).unwrap());
        assert_eq!(mode(), 0o600, "a lock of an earlier version");
        std::os::unix::fs::symlink(dir.join("elsewhere"), &link).unwrap();
        assert!(matches!(open_lock(&link), Err(Unsafe::ForeignLock(_))));
        assert!(!dir.join("elsewhere").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn only_a_stale_socket_is_removed() {
        let dir = scratch("stale");
        let path = dir.join("d.sock");
        let live = UnixListener::bind(&path).unwrap();
        assert!(matches!(remove_stale(&path), Err(Unsafe::InUse)));
        drop(live);
        remove_stale(&path).unwrap();
        assert!(!path.exists());
        std::os::unix::fs::symlink(dir.join("elsewhere"), &path).unwrap();
        assert!(matches!(remove_stale(&path), Err(Unsafe::NotASocket)));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_took_the_path_of_another_is_kept() {
        let dir = scratch("identity");
        let (path, other) = (dir.join("a"), dir.join("b"));
        std::fs::write(&path, "a").unwrap();
        std::fs::write(&other, "b").unwrap();
        let identity = Identity::of(&path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        identity.remove(&path);
        assert!(path.exists());
        Identity::of(&path).unwrap().remove(&path);
        assert!(!path.exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}

//! Opening of files by names from the configuration.

use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Identifies the content and the permissions of a file: it changes with either. `None`: the file cannot be examined.
pub type Stamp = Option<[i64; 6]>;

/// The stamp of a file; links are followed.
pub fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    let inode = i64::from_ne_bytes(meta.ino().to_ne_bytes());
    let size = i64::from_ne_bytes(meta.size().to_ne_bytes());
    // Writes, renames and changes of the mode all set the time of the last change.
    Some([
        inode,
        size,
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ])
}

/// Opens a regular file for reading; links are followed. A pipe or a device is refused without waiting for it.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// Opens a file on which others have none of these permissions. The error is the reason.
pub(crate) fn private(path: &Path, forbidden: u32, about: &str) -> Result<File, String> {
    let file = open_regular(path).map_err(|e| e.to_string())?;
    match file.metadata().map_err(|e| e.to_string())?.mode() & 0o777 {
        mode if mode & forbidden != 0 => Err(format!(
            "has mode {mode:04o}, which gives access to others{about}: chmod 0600 {}",
            path.display()
        )),
        _ => Ok(file),
    }
}

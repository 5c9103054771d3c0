//! Text of files that the command line and the configuration name, with a bound on its size and a time limit.
//!
//! A pipe without a writer, a device or a lost network share would otherwise stop the thread that reads it.

use dichroic_beam_attach::file::open_regular;
use dichroic_tasks::Kind;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Time limit for a configuration file and all files that it refers to.
pub const READ_TIME: Duration = Duration::from_secs(5);

/// A file whose text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// Longer than the limit.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// No end of the text within the time limit.
    #[error("not read to its end within {} s", READ_TIME.as_secs())]
    TooSlow,
}

/// Reads a regular file; links are followed.
pub fn read_regular(path: &Path, max: u64, deadline: Instant) -> Result<String, InputError> {
    in_time(path, max, deadline, open_regular)
}

/// Reads a file of any kind, such as a pipe.
pub fn read_any(path: &Path, max: u64, deadline: Instant) -> Result<String, InputError> {
    in_time(path, max, deadline, |path| File::open(path))
}

/// Reads on a thread of its own, because neither opening nor reading can be interrupted. After the time limit the thread is left: it
/// ends when the system call returns.
fn in_time(
    path: &Path,
    max: u64,
    deadline: Instant,
    open: fn(&Path) -> io::Result<File>,
) -> Result<String, InputError> {
    let (sender, result) = sync_channel(1);
    let path: PathBuf = path.to_owned();
    dichroic_tasks::thread(Kind::ConfigReader, move || {
        let text = open(&path)
            .map_err(InputError::Io)
            .and_then(|file| read(file, max));
        drop(sender.send(text));
    })?;
    match result.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(text) => text,
        Err(RecvTimeoutError::Timeout) => Err(InputError::TooSlow),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the reading thread ended").into()),
    }
}

fn read(file: File, max: u64) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(InputError::TooLarge(max));
    }
    String::from_utf8(bytes).map_err(|_| InputError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    const MAX: u64 = 100;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn an_endless_file_and_one_without_an_end_are_refused() {
        let dir = std::env::temp_dir().join(format!("dichroic-input-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let pipe = dir.join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let zero = Path::new("/dev/zero");
        assert!(matches!(
            read_any(zero, MAX, soon()),
            Err(InputError::TooLarge(MAX))
        ));
        assert!(matches!(read_any(&pipe, MAX, soon()), Err(InputError::TooSlow)));
        for path in [zero, &pipe, &dir] {
            let error = read_regular(path, MAX, soon()).unwrap_err().to_string();
            assert_eq!(error, "not a regular file", "{}", path.display());
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_regular_file_is_read_through_a_link_up_to_the_limit() {
        let dir = std::env::temp_dir().join(format!("dichroic-link-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("file"), dir.join("link"));
        std::fs::write(&file, "x".repeat(100)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let deadline = Instant::now() + READ_TIME;
        assert_eq!(read_regular(&link, MAX, deadline).unwrap().len(), 100);
        assert!(matches!(
            read_regular(&link, MAX - 1, deadline),
            Err(InputError::TooLarge(99))
        ));
        std::fs::write(&file, [0xff]).unwrap();
        assert!(matches!(read_any(&file, MAX, deadline), Err(InputError::NotText)));
        std::fs::remove_dir_all(dir).unwrap();
    }
}

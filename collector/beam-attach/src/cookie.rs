//! The cookie, which allows to run any code on the node. Read from a file that only its owner can read; never shown.

use crate::error::Error;
use crate::file::private;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest cookie that a node can have: it is an atom.
const MAX_BYTES: usize = 255;

/// A cookie. Its text leaves this module only as part of a digest.
#[derive(Clone)]
pub struct Cookie(Vec<u8>);

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<cookie>")
    }
}

/// Where the cookie is read from.
#[derive(Debug, Clone, Default)]
pub struct CookieSources {
    /// A file.
    pub file: Option<PathBuf>,
    /// A release, whose cookie is in `releases/COOKIE`.
    pub release: Option<PathBuf>,
}

/// Path in the folder of a release.
const COOKIE: &str = "releases/COOKIE";

impl CookieSources {
    /// The files that [`Cookie::find`] may read, in its order.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.file {
            return vec![path.clone()];
        }
        if let Some(release) = &self.release {
            return vec![release.join(COOKIE)];
        }
        match variable("DICHROIC_COOKIE_FILE") {
            Some(path) => vec![path],
            None => homes().collect(),
        }
    }

    /// The warning for a usable cookie file that others can read.
    pub fn warning(&self) -> Option<String> {
        let path = self.release.as_ref()?.join(COOKIE);
        let mode = std::fs::metadata(&path).ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then(|| {
            format!(
                "cookie file {} has mode {mode:04o}: its readers can run any code on the node; chmod 0600 it",
                path.display()
            )
        })
    }
}

impl Cookie {
    /// From bytes, as a file has them.
    pub fn new(text: &[u8]) -> Result<Self, Error> {
        let cookie = text.trim_ascii();
        match cookie.len() {
            0 => Err(Error::Cookie("the cookie is empty".to_owned())),
            1..=MAX_BYTES => Ok(Cookie(cookie.to_vec())),
            n => Err(Error::Cookie(format!(
                "the cookie has {n} bytes, at most {MAX_BYTES} are allowed"
            ))),
        }
    }

    /// The first of: the named file, the release's, `$DICHROIC_COOKIE_FILE`, `~/.erlang.cookie`. A given file or release is the only source tried.
    pub fn find(sources: &CookieSources) -> Result<Self, Error> {
        if let Some(path) = &sources.file {
            return Self::read(path);
        }
        if let Some(release) = &sources.release {
            // Release tools make it readable by all; `CookieSources::warning` reports that.
            return Self::read_as(&release.join(COOKIE), 0o022);
        }
        if let Some(path) = variable("DICHROIC_COOKIE_FILE") {
            return Self::read(&path);
        }
        match homes().find(|path| path.exists()) {
            Some(path) => Self::read(&path),
            None => Err(Error::Cookie(
                "no cookie: set a file with --cookie-file or DICHROIC_COOKIE_FILE, or a release with --release; ~/.erlang.cookie does not exist".to_owned(),
            )),
        }
    }

    /// Reads a file that only its owner can read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_as(path, 0o077)
    }

    fn read_as(path: &Path, forbidden: u32) -> Result<Self, Error> {
        let message =
            |what: &dyn fmt::Display| Error::Cookie(format!("cookie file {}: {what}", path.display()));
        let about = "; a holder of the cookie can run any code on the node";
        let file = private(path, forbidden, about).map_err(|e| message(&e))?;
        let mut text = Vec::new();
        file.take(4096).read_to_end(&mut text).map_err(|e| message(&e))?;
        Self::new(&text).map_err(|e| message(&e))
    }

    /// The digest that proves knowledge of the cookie for a challenge.
    pub(crate) fn digest(&self, challenge: u32) -> [u8; 16] {
        use md5::{Digest, Md5};
        let mut md5 = Md5::new();
        md5.update(&self.0);
        md5.update(challenge.to_string().as_bytes());
        md5.finalize().into()
    }
}

/// The files that Erlang itself reads.
fn homes() -> impl Iterator<Item = PathBuf> {
    let homes = [
        variable("HOME").map(|home| home.join(".erlang.cookie")),
        variable("XDG_CONFIG_HOME").map(|config| config.join("erlang/.erlang.cookie")),
    ];
    homes.into_iter().flatten()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str, mode: u32, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dichroic-cookie-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_that_others_can_read_is_rejected() {
        let check = |mode: u32, good: bool| {
            let path = scratch(&format!("{mode:o}"), mode, "SECRET\n");
            match Cookie::read(&path) {
                Ok(_) => assert!(good, "{mode:o}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(!good, "{mode:o}: {message}");
                    assert!(
                        message.contains("chmod 0600") && !message.contains("SECRET"),
                        "{message}"
                    );
                }
            }
            fs::remove_file(path).unwrap();
        };
        check(0o600, true);
        check(0o400, true);
        check(0o640, false);
        check(0o604, false);
        check(0o644, false);
    }

    #[test]
    fn a_release_cookie_may_be_readable_by_others_with_a_warning() {
        let release = std::env::temp_dir().join(format!("dichroic-release-{}", std::process::id()));
        fs::create_dir_all(release.join("releases")).unwrap();
        let path = release.join(COOKIE);
        fs::write(&path, "SECRET").unwrap();
        let sources = CookieSources {
            file: None,
            release: Some(release.clone()),
        };
        let check = |mode: u32, good: bool, warned: bool| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Cookie::find(&sources).is_ok(), good, "{mode:o}");
            assert_eq!(sources.warning().is_some(), warned, "{mode:o}");
        };
        check(0o600, true, false);
        check(0o644, true, true);
        check(0o664, false, true);
        fs::remove_dir_all(release).unwrap();
    }

    #[test]
    fn a_cookie_has_1_to_255_bytes_and_is_never_shown() {
        assert!(Cookie::new(b" \n").is_err());
        assert!(Cookie::new(&[b'x'; 256]).is_err());
        let cookie = Cookie::new(b"SECRET\n").unwrap();
        assert_eq!(cookie.0, b"SECRET");
        assert_eq!(format!("{cookie:?}"), "<cookie>");
    }

    #[test]
    fn the_digest_equals_that_of_erlang() {
        // erlang:md5(["monster", "12345"])
        let hex: String = Cookie::new(b"monster")
            .unwrap()
            .digest(12345)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, "a5ed80015fecaf4c95df69831987c39e");
    }
}

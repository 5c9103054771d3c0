//! `security.local_tcp`: the socket of relays and subscribers as a TCP port, for those who cannot open the file. It wants a token.

use super::values::{Listen, Secret};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Least number of bits that a token may stand for.
const BITS: f64 = 128.0;
/// Longest token, in bytes: it has to fit into a HELLO.
const MAX_BYTES: usize = 512;
const MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

/// The listener.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalTcp {
    pub listen: Listen,
    /// What relays and subscribers have to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File with it, that only its owner can read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for LocalTcp {
    fn default() -> Self {
        LocalTcp {
            listen: Listen::On(SocketAddr::from((Ipv4Addr::LOCALHOST, 4319))),
            token: None,
            token_file: None,
        }
    }
}

impl LocalTcp {
    /// The token, wherever it stands; else what to write.
    pub fn secret(&self) -> Result<Secret, String> {
        match (&self.token, &self.token_file) {
            (Some(token), None) => strong(token.clone()).map_err(|e| format!("security.local_tcp.token {e}")),
            (None, Some(path)) => read_token(path).map_err(|e| format!("security.local_tcp.token_file: {e}")),
            (None, None) => Err(format!(
                "security.local_tcp: set token or token_file: whoever can reach the port must show a token; {MAKE_ONE}"
            )),
            (Some(_), Some(_)) => Err("security.local_tcp: write token or token_file, not both".to_owned()),
        }
    }
}

/// Reads the token of a file that nobody but its owner may read.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    let message = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = File::open(path).map_err(|e| message(&e))?;
    let meta = file.metadata().map_err(|e| message(&e))?;
    if !meta.is_file() {
        return Err(message(&"is not a file"));
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(message(&format_args!(
            "has mode {mode:04o}, so that others may use it: chmod 0600 {}",
            path.display()
        )));
    }
    let mut text = String::new();
    file.take(4096)
        .read_to_string(&mut text)
        .map_err(|e| message(&e))?;
    strong(Secret(text.trim().to_owned())).map_err(|e| message(&format_args!("the token {e}")))
}

/// Refuses what can be guessed. How random a text is cannot be seen, only how much it can hold at most.
fn strong(token: Secret) -> Result<Secret, String> {
    let text = &token.0;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "has characters other than visible ASCII ones; {MAKE_ONE}"
        ));
    }
    if text.len() > MAX_BYTES {
        return Err(format!(
            "has {} characters; {MAX_BYTES} are the limit",
            text.len()
        ));
    }
    let bits_each: f64 = if text.bytes().all(|b| b.is_ascii_digit()) {
        10_f64.log2()
    } else if text.bytes().all(|b| b.is_ascii_hexdigit()) {
        4.0
    } else {
        6.0
    };
    if bits_each * (text.len() as f64) < BITS {
        return Err(format!(
            "is too short: {} characters of this kind are less than {BITS} bits; {MAKE_ONE}",
            text.len()
        ));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(token: &str) -> LocalTcp {
        LocalTcp {
            token: Some(Secret(token.to_owned())),
            ..LocalTcp::default()
        }
    }

    #[test]
    fn a_token_of_less_than_128_bits_is_refused_in_words_that_do_not_show_it() {
        let check = |token: &str, good: bool| match with(token).secret() {
            Ok(secret) => assert!(good && secret.0 == token, "{token}"),
            Err(message) => {
                assert!(!good, "{message}");
                assert!(message.contains("security.local_tcp.token"), "{message}");
                assert!(token.is_empty() || !message.contains(token), "{message}");
            }
        };
        check(&"a1".repeat(16), true);
        check(&"a1".repeat(15), false);
        check(&"7".repeat(39), true);
        check(&"7".repeat(38), false);
        check("zK9dl2Qm_aR7yT0pWx4-vB", true);
        check("zK9dl2Qm_aR7yT0pWx4-v", false);
        check("", false);
        check("with spaces in it and quite long", false);
        check(&"z".repeat(513), false);
    }

    #[test]
    fn one_token_is_wanted_and_not_two() {
        let message = LocalTcp::default().secret().unwrap_err();
        assert!(
            message.contains("token_file") && message.contains("openssl"),
            "{message}"
        );
        let both = LocalTcp {
            token_file: Some("/nowhere".into()),
            ..with(&"ab".repeat(32))
        };
        assert!(both.secret().unwrap_err().contains("not both"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("dichroic-token-{}", std::process::id()));
        let token = "0f".repeat(32);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let check = |mode: u32, good: bool| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read_token(&path) {
                Ok(secret) => assert!(good && secret.0 == token, "{mode:o}"),
                Err(message) => assert!(!good && message.contains("chmod 0600"), "{message}"),
            }
        };
        check(0o600, true);
        check(0o400, true);
        check(0o640, false);
        check(0o644, false);
        std::fs::remove_file(path).unwrap();
    }
}

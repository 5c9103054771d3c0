//! `security.local_tcp`: the service of the local socket on a TCP port with a token, for clients that cannot open the socket.

use super::position::KeyPath;
use super::values::{Listen, Secret, present_secret};
use super::violation::Violation;
use dichroic_beam_attach::file::open_regular;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Smallest strength of a token, in bits.
const BITS: f64 = 128.0;
/// Longest token that a HELLO can contain, in bytes.
const MAX_BYTES: usize = 512;
const MAKE_ONE: &str = "make a token with `openssl rand -hex 32`";

/// The service of the local socket on a TCP port.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalTcp {
    /// Address of the listener. An address that is not loopback requires `security.allow_non_loopback`.
    #[schemars(example = &"127.0.0.1:4319")]
    pub listen: Listen,
    /// Token that relays and subscribers must send, of at least 128 bits. Either this or `token_file` is required.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present_secret")]
    #[schemars(length(max = 512), example = &"${env:DICHROIC_TOKEN}")]
    pub token: Option<Secret>,
    /// File with the token, readable by its owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/run/secrets/dichroic")]
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

/// A token that cannot be used. No message contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither `token` nor `token_file`.
    #[error("token or token_file is required")]
    Missing,
    /// Both `token` and `token_file`.
    #[error("token and token_file exclude each other")]
    Both,
    /// The text of `token`.
    #[error("{0}")]
    Token(WeakToken),
    /// The text of the file.
    #[error("{}: {}", .0.display(), .1)]
    InFile(PathBuf, WeakToken),
    /// The file cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Unreadable(PathBuf, String),
    /// Other users can read the file.
    #[error("{}: mode {:04o} lets other users read the file", .0.display(), .1)]
    Mode(PathBuf, u32),
}

/// Why a text cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeakToken {
    /// Spaces, control characters or letters outside of ASCII.
    #[error("the token has characters other than visible ASCII characters")]
    Characters,
    /// Longer than a HELLO can contain.
    #[error("the token has {0} characters, more than the maximum of {MAX_BYTES}")]
    Long(usize),
    /// Can be guessed.
    #[error("the token is too short: {0} such characters hold less than {BITS} bits")]
    Short(usize),
}

impl TokenError {
    /// What to do instead.
    pub fn help(&self) -> String {
        match self {
            TokenError::Missing => format!("set token_file, or token; {MAKE_ONE}"),
            TokenError::Both => "remove one of the two".to_owned(),
            TokenError::Token(_) | TokenError::InFile(..) => MAKE_ONE.to_owned(),
            TokenError::Unreadable(..) => format!("name a file that holds only the token; {MAKE_ONE}"),
            TokenError::Mode(path, _) => format!("run chmod 0600 {}", path.display()),
        }
    }

    /// As an error of `security.local_tcp`.
    pub fn violation(self) -> Violation {
        let section = KeyPath::of("security.local_tcp");
        let key = match self {
            TokenError::Missing | TokenError::Both => section,
            TokenError::Token(_) => section.key("token"),
            TokenError::InFile(..) | TokenError::Unreadable(..) | TokenError::Mode(..) => {
                section.key("token_file")
            }
        };
        Violation::new(key, self.to_string(), self.help())
    }
}

impl LocalTcp {
    /// The token, from either key.
    pub fn secret(&self) -> Result<Secret, TokenError> {
        match (&self.token, &self.token_file) {
            (Some(token), None) => strong(token.clone()).map_err(TokenError::Token),
            (None, Some(path)) => read_token(path),
            (None, None) => Err(TokenError::Missing),
            (Some(_), Some(_)) => Err(TokenError::Both),
        }
    }
}

/// Reads the token in a file that only its owner can read.
pub fn read_token(path: &Path) -> Result<Secret, TokenError> {
    let unreadable = |error: std::io::Error| TokenError::Unreadable(path.to_owned(), error.to_string());
    let file = open_regular(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Mode(path.to_owned(), mode));
    }
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(unreadable)?;
    strong(Secret(text.trim().to_owned())).map_err(|error| TokenError::InFile(path.to_owned(), error))
}

/// Refuses a token that can be guessed. Measures the largest number of bits that such a text can contain, not its randomness.
fn strong(token: Secret) -> Result<Secret, WeakToken> {
    let text = &token.0;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(WeakToken::Characters);
    }
    if text.len() > MAX_BYTES {
        return Err(WeakToken::Long(text.len()));
    }
    let bits_each: f64 = if text.bytes().all(|b| b.is_ascii_digit()) {
        10_f64.log2()
    } else if text.bytes().all(|b| b.is_ascii_hexdigit()) {
        4.0
    } else {
        6.0
    };
    match bits_each * (text.len() as f64) < BITS {
        true => Err(WeakToken::Short(text.len())),
        false => Ok(token),
    }
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
    fn a_token_of_less_than_128_bits_is_refused_without_repeating_it() {
        let check = |token: &str, good: bool| match with(token).secret() {
            Ok(secret) => assert!(good && secret.0 == token, "{token}"),
            Err(error) => {
                assert!(!good, "{error}");
                let violation = error.violation();
                assert_eq!(violation.key.to_string(), "security.local_tcp.token");
                assert!(
                    token.is_empty() || !violation.to_string().contains(token),
                    "{violation}"
                );
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
    fn exactly_one_of_token_and_token_file_is_accepted() {
        let missing = LocalTcp::default().secret().unwrap_err();
        assert_eq!(missing, TokenError::Missing);
        let help = missing.help();
        assert!(help.contains("token_file") && help.contains("openssl"), "{help}");
        let both = LocalTcp {
            token_file: Some("/nowhere".into()),
            ..with(&"ab".repeat(32))
        };
        assert_eq!(both.secret().unwrap_err(), TokenError::Both);
    }

    #[test]
    fn a_token_file_that_other_users_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("dichroic-token-{}", std::process::id()));
        let token = "0f".repeat(32);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let check = |mode: u32, good: bool| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read_token(&path) {
                Ok(secret) => assert!(good && secret.0 == token, "{mode:o}"),
                Err(error) => {
                    assert!(!good && error.help().contains("chmod 0600"), "{error}");
                    assert_eq!(error, TokenError::Mode(path.clone(), mode));
                }
            }
        };
        check(0o600, true);
        check(0o400, true);
        check(0o640, false);
        check(0o644, false);
        std::fs::remove_file(path).unwrap();
    }
}

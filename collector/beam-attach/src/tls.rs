//! TLS to nodes that were started with `-proto_dist inet_tls`: trusted CAs, client certificate, and errors with advice.
//!
//! The node's certificate is verified before anything is sent; the cookie is checked as well. Files are read at every connection, so
//! that renewed certificates need no restart.

use crate::error::Error;
use crate::file::{open_regular, private};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time for the TLS handshake: a node without TLS waits for more bytes without a reply.
const HANDSHAKE: Duration = Duration::from_secs(4);
/// Longest file of certificates.
const MAX_BYTES: u64 = 1 << 20;

/// TLS settings for a node's distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// CA certificates that sign nodes, PEM.
    pub ca_file: PathBuf,
    /// Client certificate, with its chain up to the CA, and its key, both PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Expected name in the node's certificate; by default the host of the node name.
    pub server_name: Option<String>,
}

impl Tls {
    /// Performs the TLS handshake on a new connection. `host` is the host part of the node name.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| {
            Error::Tls(format!(
                "invalid server name {name:?}: set server_name (--tls-name)"
            ))
        })?;
        let connector = TlsConnector::from(Arc::new(self.client()?));
        match timeout(HANDSHAKE, connector.connect(server, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.explain(&error, name)),
            Err(_) => Err(not_tls()),
        }
    }

    fn client(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca_file)? {
            let message = |e| {
                wrong(
                    &self.ca_file,
                    &format!("has a certificate that is not a CA's: {e}"),
                )
            };
            roots.add(certificate).map_err(message)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Tls(e.to_string()))?
            .with_root_certificates(roots);
        let Some((cert_file, key_file)) = &self.identity else {
            return Ok(config.with_no_client_auth());
        };
        let chain = certificates(cert_file)?;
        config
            .with_client_auth_cert(chain, key(key_file)?)
            .map_err(|e| wrong(cert_file, &format!("does not match {}: {e}", key_file.display())))
    }

    fn explain(&self, error: &io::Error, name: &str) -> Error {
        use CertificateError as Bad;
        let ca = self.ca_file.display();
        let failed =
            |error: &dyn std::fmt::Display| Error::Connection(format!("TLS to the node failed: {error}"));
        match inner(error) {
            Some(rustls::Error::InvalidCertificate(bad)) => Error::Tls(match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => "the node's certificate has expired".to_owned(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "the node's certificate is not valid yet: check the clocks".to_owned()
                }
                Bad::UnknownIssuer => format!("the node's certificate is not signed by a CA of {ca}"),
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => format!(
                    "the node's certificate is not for {name} according to its subjectAltName: set server_name (--tls-name) to a name in it"
                ),
                other => format!("the node's certificate cannot be used: {other}"),
            }),
            Some(rustls::Error::InvalidMessage(_)) => not_tls(),
            Some(rustls::Error::AlertReceived(alert)) => Error::Tls(refused(*alert)),
            Some(other) => failed(other),
            None if is_end(error) => not_tls(),
            None => failed(error),
        }
    }
}

/// The error for a TLS alert after the handshake: with TLS 1.3 the node verifies the client certificate after the client is done.
pub(crate) fn alert_error(error: &io::Error) -> Option<Error> {
    match inner(error)? {
        rustls::Error::AlertReceived(alert) => Some(Error::Tls(refused(*alert))),
        _ => None,
    }
}

fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn not_tls() -> Error {
    let message =
        "the node does not answer in TLS: start it with -proto_dist inet_tls, or remove tls (--tls-ca)";
    Error::Connection(message.to_owned())
}

fn refused(alert: AlertDescription) -> String {
    let advice = match alert {
        AlertDescription::CertificateRequired => {
            "it requires a certificate: set cert_file and key_file (--tls-cert, --tls-key)"
        }
        AlertDescription::UnknownCA => "it does not trust the CA that signed the client certificate",
        AlertDescription::CertificateExpired => "the client certificate has expired",
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            "it does not support TLS 1.2 or 1.3"
        }
        AlertDescription::HandshakeFailure => {
            "it requires a client certificate, or supports none of the ciphers"
        }
        _ => "see the node's log",
    };
    format!("the node refuses the TLS connection ({alert:?}): {advice}")
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::Tls(format!("{}: {what}", path.display()))
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|e| wrong(path, &e.to_string()))?;
    Ok(text)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path, open_regular(path).map_err(|e| wrong(path, &e.to_string()))?)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(path, "contains no certificate in PEM")),
        Err(e) => Err(wrong(path, &format!("is not valid PEM: {e}"))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let file = private(path, 0o077, "").map_err(|e| wrong(path, &e))?;
    PrivateKeyDer::from_pem_slice(&read(path, file)?)
        .map_err(|_| wrong(path, "contains no private key in PEM, or an encrypted one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dichroic-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn file_errors_name_the_file() {
        let check = |ca_file: &Path, expected: &str| {
            let tls = Tls {
                ca_file: ca_file.to_owned(),
                identity: None,
                server_name: None,
            };
            let message = tls.client().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(&ca_file.display().to_string()), "{message}");
        };
        check(Path::new("/nowhere/ca.pem"), "No such file");
        let empty = scratch("empty", "");
        check(&empty, "no certificate in PEM");
        let broken = scratch("broken", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        check(&broken, "PEM");
        let invalid = scratch(
            "invalid",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        check(&invalid, "not a CA's");
        for path in [empty, broken, invalid] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_rejected() {
        use std::os::unix::fs::PermissionsExt;
        let path = scratch("key", "SECRET");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let message = key(&path).unwrap_err().to_string();
        assert!(message.contains("chmod 0600"), "{message}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let message = key(&path).unwrap_err().to_string();
        assert!(
            message.contains("contains no private key") && !message.contains("SECRET"),
            "{message}"
        );
        std::fs::remove_file(path).unwrap();
    }
}

//! How to reach a server beyond its address: TLS, Sentinel, credentials that are asked for.

use std::fmt;
use std::sync::Arc;

use crate::config::RedisAddress;
use crate::error::Result;

/// TLS as the parameters of redis-py (and, in brackets where they differ, of py-amqp) describe it. Files are read at every connection, so that renewed
/// certificates are taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Whether the server's certificate is checked at all (`ssl_cert_reqs`).
    pub verify: bool,
    /// Whether it has to name the host that we connect to (`ssl_check_hostname`).
    pub check_hostname: bool,
    /// PEM file of certificates that are trusted besides the system's (`ssl_ca_certs`).
    pub ca_file: Option<String>,
    /// Directory of such certificates under their hashed names (`ssl_ca_path`).
    pub ca_path: Option<String>,
    /// Such certificates themselves, PEM or one DER (`ssl_ca_data`).
    pub ca_data: Option<Vec<u8>>,
    /// Our certificate, PEM, with what leads to its issuer (`ssl_certfile`).
    pub cert_file: Option<String>,
    /// Its private key, PEM, not encrypted (`ssl_keyfile`); the certificate's file by default.
    pub key_file: Option<String>,
    /// The name that the server's certificate has to bear, where it is not the host's (`server_hostname`).
    pub server_name: Option<String>,
    /// Refuse TLS 1.2 (`ssl_min_version`); anything older is refused anyway.
    pub only_tls13: bool,
}

/// A group of servers that Sentinel watches.
#[derive(Debug, Clone, PartialEq)]
pub struct SentinelSettings {
    /// The Sentinel processes, each with its own credentials and limits.
    pub nodes: Vec<RedisAddress>,
    /// The group's name (`master_name`).
    pub master_name: String,
    /// A Sentinel that knows fewer others is not believed (`min_other_sentinels`).
    pub min_other_sentinels: u32,
}

/// A user and a password for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// ACL user; the server's default without one.
    pub username: Option<String>,
    /// Password or token.
    pub password: Option<String>,
}

/// Credentials that are asked for at each connection, because they expire.
#[derive(Clone)]
pub struct CredentialSource(Arc<dyn Fn() -> Result<Credentials> + Send + Sync>);

impl CredentialSource {
    /// Wraps what makes credentials; called from any thread.
    pub fn new(make: impl Fn() -> Result<Credentials> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// Whatever the source says.
    pub fn credentials(&self) -> Result<Credentials> {
        (self.0)()
    }
}

impl PartialEq for CredentialSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CredentialSource")
    }
}

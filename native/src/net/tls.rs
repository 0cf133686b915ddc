//! Opening TLS on a connected, blocking socket.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{IpAddr, Ipv4Addr, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

use super::roots::{load, read, read_certificates};
use super::settings::TlsSettings;
use super::tls_stream::TlsStream;
use super::verify::{ChainVerifier, NoVerifier};
use crate::error::{Error, ErrorKind, Result};

const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// Makes the encrypted stream. `before_each_step` sets the socket's timeouts to what is left of the deadline.
///
/// # Errors
///
/// `Config` for files and names that are not usable, `Connection` for what the server or its certificate
/// brings, `Timeout`.
pub(crate) fn open<S: Read + Write>(
    stream: S,
    host: &str,
    settings: &TlsSettings,
    mut before_each_step: impl FnMut(&S) -> Result<()>,
) -> Result<TlsStream<S>> {
    let config = client_config(settings)?;
    let session = ClientConnection::new(Arc::new(config), server_name(host, settings)?).map_err(failed)?;
    let mut stream = TlsStream::new(session, stream);
    while stream.is_handshaking() {
        before_each_step(stream.socket())?;
        stream.advance_handshake()?;
    }
    Ok(stream)
}

/// An error of the TLS layer as one of ours: another attempt may meet a mended server.
pub(crate) fn failed(error: rustls::Error) -> Error {
    let text = match &error {
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port".to_owned(),
        other => other.to_string(),
    };
    Error::new(ErrorKind::Connection, format!("TLS: {text}"))
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let versions = if settings.only_tls13 { ONLY_TLS13 } else { ALL_VERSIONS };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(settings, provider)?);
    match (&settings.cert_file, &settings.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (None, Some(_)) => Err(Error::new(ErrorKind::Config, "ssl_keyfile: needs ssl_certfile beside it")),
        (Some(cert_file), key_file) => {
            let chain = read_certificates(cert_file, "ssl_certfile")?;
            let key = read_key(key_file.as_ref().unwrap_or(cert_file))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| Error::new(ErrorKind::Config, format!("ssl_certfile: {cert_file}: {error}")))
        }
    }
}

fn verifier(settings: &TlsSettings, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    if !settings.verify {
        return Ok(Arc::new(NoVerifier(provider.signature_verification_algorithms.supported_schemes())));
    }
    Ok(Arc::new(ChainVerifier::new(load(settings)?, provider, settings.check_hostname)?))
}

fn read_key(path: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path, "ssl_keyfile")?).map_err(|_| {
        let text = format!("ssl_keyfile: {path} holds no private key in PEM (an encrypted one is not supported)");
        Error::new(ErrorKind::Config, text)
    })
}

fn server_name(host: &str, settings: &TlsSettings) -> Result<ServerName<'static>> {
    match ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()) {
        Ok(name) => Ok(name),
        // Names that DNS does not know, such as those of containers; an address sends no name at all.
        Err(_) if !settings.verify || !settings.check_hostname => {
            Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0]))))
        }
        Err(error) => Err(Error::new(ErrorKind::Config, format!("ssl_check_hostname: {host:?}: {error}"))),
    }
}

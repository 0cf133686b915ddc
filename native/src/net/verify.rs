//! Whether a server's certificate is believed, by the rules that redis-py's parameters express.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme};

use super::roots::Trusted;
use crate::error::{Error, ErrorKind, Result};

/// Checks the chain, and the name where that is wanted.
#[derive(Debug)]
pub(crate) struct ChainVerifier {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    check_hostname: bool,
}

impl ChainVerifier {
    pub(crate) fn new(trusted: Trusted, provider: Arc<CryptoProvider>, check_hostname: bool) -> Result<Self> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.roots), provider)
            .build()
            .map_err(|error| Error::new(ErrorKind::Config, format!("ssl_ca_certs: {error}")))?;
        Ok(Self { inner, named: trusted.named, check_hostname })
    }

    /// A certificate that is trusted by name needs no chain, also if it is marked as an authority, which is
    /// what `openssl req -x509` makes.
    fn accept_named(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        if self.check_hostname {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let verdict = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match &verdict {
            // The name is looked at last: the chain is sound.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_hostname => Ok(ServerCertVerified::assertion()),
            // Its dates are looked at before its purpose: they are sound.
            Err(TlsError::InvalidCertificate(CertificateError::Other(other)))
                if is_authority(other) && self.named.iter().any(|named| named == end_entity) =>
            {
                self.accept_named(end_entity, server_name)
            }
            _ => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether a certificate was refused only for being an authority's. The reason has no variant of its own.
fn is_authority(error: &OtherError) -> bool {
    error.0.to_string() == "CaUsedAsEndEntity"
}

/// `ssl_cert_reqs=none`: encrypted, and no knowing with whom.
#[derive(Debug)]
pub(crate) struct NoVerifier(pub(crate) Vec<SignatureScheme>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature under a key that nobody vouches for proves nothing, and certificates too old to be parsed
    // are in use where nobody looks at them.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

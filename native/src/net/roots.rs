//! Whom we trust: the system's certificate authorities and those that the settings name.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::settings::TlsSettings;
use crate::error::{Error, ErrorKind, Result};

/// The authorities, and the certificates named in the settings themselves: one of those may be the server's
/// own, self-signed.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) roots: RootCertStore,
    pub(crate) named: Vec<CertificateDer<'static>>,
}

/// Reads what is trusted. The system's certificates count always, as in Python's default context.
pub(crate) fn load(settings: &TlsSettings) -> Result<Trusted> {
    let mut named = Vec::new();
    if let Some(path) = &settings.ca_file {
        let found = read_certificates(path, "ssl_ca_certs")?;
        named.extend(found);
    }
    if let Some(data) = &settings.ca_data {
        named.extend(from_data(data)?);
    }
    if let Some(path) = &settings.ca_path {
        let found = rustls_native_certs::load_certs_from_paths(None, Some(Path::new(path)));
        if found.certs.is_empty() {
            return Err(Error::new(ErrorKind::Config, format!("ssl_ca_path: no certificates in {path}")));
        }
        named.extend(found.certs);
    }
    let mut roots = RootCertStore::empty();
    for certificate in &named {
        roots.add(certificate.clone()).map_err(|error| {
            Error::new(ErrorKind::Config, format!("ssl_ca_certs: a certificate is not usable: {error}"))
        })?;
    }
    // What cannot be read of the system's certificates is missed when a server needs it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let text = "TLS: no certificate authority is known on this system; name a file with ssl_ca_certs";
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(Trusted { roots, named })
}

/// Reads a PEM file with at least one certificate. `setting` names it in errors.
pub(crate) fn read_certificates(path: &str, setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path, setting)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::new(ErrorKind::Config, format!("{setting}: {path}: {error}")))?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("{setting}: {path} holds no PEM certificate")));
    }
    Ok(found)
}

/// Reads a file that a setting names.
pub(crate) fn read(path: &str, setting: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::new(ErrorKind::Config, format!("{setting}: {path}: {error}")))
}

fn from_data(data: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(data)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::new(ErrorKind::Config, format!("ssl_ca_data: {error}")))?;
    if found.is_empty() {
        return Ok(vec![CertificateDer::from(data.to_vec())]);
    }
    Ok(found)
}

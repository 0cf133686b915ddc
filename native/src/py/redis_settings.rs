//! The parts of a Redis address beyond host and port, from `pyworker.worker.redis_config`.

use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::convert::{field, redis_address};
use crate::error::{Error, ErrorKind};
use crate::net::settings::{CredentialSource, Credentials, SentinelSettings, TlsSettings};

pub(super) fn tls(object: &Bound<'_, PyAny>) -> PyResult<Option<TlsSettings>> {
    let settings = object.getattr("tls")?;
    if settings.is_none() {
        return Ok(None);
    }
    Ok(Some(TlsSettings {
        verify: field(&settings, "verify")?,
        check_hostname: field(&settings, "check_hostname")?,
        ca_file: field(&settings, "ca_file")?,
        ca_path: field(&settings, "ca_path")?,
        ca_data: field(&settings, "ca_data")?,
        cert_file: field(&settings, "cert_file")?,
        key_file: field(&settings, "key_file")?,
        server_name: field(&settings, "server_name")?,
        only_tls13: field(&settings, "only_tls13")?,
    }))
}

pub(super) fn sentinel(object: &Bound<'_, PyAny>) -> PyResult<Option<SentinelSettings>> {
    let settings = object.getattr("sentinel")?;
    if settings.is_none() {
        return Ok(None);
    }
    Ok(Some(SentinelSettings {
        nodes: settings.getattr("nodes")?.try_iter()?.map(|node| redis_address(&node?)).collect::<PyResult<_>>()?,
        master_name: field(&settings, "master_name")?,
        min_other_sentinels: field(&settings, "min_other_sentinels")?,
    }))
}

/// A callable that gives user and password; called without the GIL held by its caller, on threads of ours.
pub(super) fn credential_source(object: &Bound<'_, PyAny>) -> PyResult<Option<CredentialSource>> {
    let callable = object.getattr("credential_source")?;
    if callable.is_none() {
        return Ok(None);
    }
    let callable = callable.unbind();
    Ok(Some(CredentialSource::new(move || {
        Python::attach(|py| {
            let given = callable.bind(py).call0().and_then(|pair| pair.extract::<(Option<String>, Option<String>)>());
            given.map(|(username, password)| Credentials { username, password }).map_err(|error| {
                // Whoever gives credentials may be back at the next attempt.
                Error::new(ErrorKind::Connection, format!("the credential provider failed: {error}"))
            })
        })
    })))
}

pub(super) fn alternates(object: &Bound<'_, PyAny>) -> PyResult<Vec<crate::config::RedisAddress>> {
    object.getattr("alternates")?.try_iter()?.map(|alternate| redis_address(&alternate?)).collect()
}

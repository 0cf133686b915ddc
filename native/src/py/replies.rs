//! Waiting for `rpc://` results for Python: blocks without the GIL.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes};

use super::convert_amqp::{amqp_address, declaration};
use super::errors::to_python;
use crate::results::replies;

/// Correlation id, content type, content encoding and body.
type Reply<'py> = (String, String, String, Bound<'py, PyBytes>);

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct AmqpReplies(Mutex<replies::AmqpReplies>);

#[pymethods]
impl AmqpReplies {
    #[new]
    fn new(py: Python<'_>, addresses: Vec<Bound<'_, PyAny>>, queue: &Bound<'_, PyAny>) -> PyResult<Self> {
        let addresses = addresses.iter().map(amqp_address).collect::<PyResult<Vec<_>>>()?;
        let queue = declaration(queue)?;
        let opened = py.detach(|| replies::AmqpReplies::open(&addresses, &queue));
        opened.map(|replies| Self(Mutex::new(replies))).map_err(to_python)
    }

    fn next<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Option<Reply<'py>>> {
        let timeout = Duration::from_secs_f64(timeout_s.clamp(0.0, 86_400.0));
        let found = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next(timeout));
        let reply = found.map_err(to_python)?;
        Ok(reply.map(|reply| {
            (reply.correlation_id, reply.content_type, reply.content_encoding, PyBytes::new(py, &reply.body))
        }))
    }
}

//! Waiting for results, for Python: blocks without the GIL.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyAny, PyBytes};

use super::convert::redis_address;
use super::errors::to_python;
use crate::error::{Error, ErrorKind, Result};
use crate::results::subscription;

type Value<'py> = Option<Bound<'py, PyBytes>>;

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct ResultSubscription(Mutex<subscription::ResultSubscription>);

impl ResultSubscription {
    fn lock(&self) -> Result<MutexGuard<'_, subscription::ResultSubscription>> {
        self.0.try_lock().map_err(|_| Error::new(ErrorKind::Internal, "the subscription is in use by another thread"))
    }
}

fn values(py: Python<'_>, found: Result<Vec<Option<Vec<u8>>>>) -> PyResult<Vec<Value<'_>>> {
    let found = found.map_err(to_python)?;
    Ok(found.into_iter().map(|value| value.map(|bytes| PyBytes::new(py, &bytes))).collect())
}

#[pymethods]
impl ResultSubscription {
    #[new]
    fn new(py: Python<'_>, address: &Bound<'_, PyAny>) -> PyResult<Self> {
        let address = redis_address(address)?;
        let opened = py.detach(|| subscription::ResultSubscription::open(&address)).map_err(to_python)?;
        Ok(Self(Mutex::new(opened)))
    }

    fn subscribe<'py>(&self, py: Python<'py>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<Value<'py>>> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        values(py, py.detach(|| self.lock()?.subscribe(&keys)))
    }

    fn read<'py>(&self, py: Python<'py>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<Value<'py>>> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        values(py, py.detach(|| self.lock()?.read(&keys)))
    }

    fn next<'py>(
        &self,
        py: Python<'py>,
        timeout_s: f64,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
        let timeout = Duration::try_from_secs_f64(timeout_s.clamp(0.0, 86_400.0)).unwrap_or_default();
        let found = py.detach(|| self.lock()?.next(timeout)).map_err(to_python)?;
        Ok(found.map(|(key, value)| (PyBytes::new(py, &key), PyBytes::new(py, &value))))
    }

    fn unsubscribe(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.lock()?.unsubscribe()).map_err(to_python)
    }
}

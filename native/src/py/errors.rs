//! From the core's errors to Python's.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Error;

/// An error of the native core.
#[pyclass(extends = PyException, module = "pyworker._native", subclass, frozen)]
#[derive(Debug)]
pub(super) struct NativeError {
    message: String,
    #[pyo3(get)]
    kind: Py<PyString>,
    #[pyo3(get)]
    retryable: bool,
}

#[pymethods]
impl NativeError {
    #[new]
    #[pyo3(signature = (message, kind = "internal", retryable = false))]
    fn new(py: Python<'_>, message: &str, kind: &str, retryable: bool) -> Self {
        Self { message: message.to_owned(), kind: PyString::intern(py, kind).unbind(), retryable }
    }

    /// What went wrong alone: it is shown to people.
    fn __str__(&self) -> &str {
        &self.message
    }
}

/// Makes the Python exception of a core error.
pub(super) fn to_python(error: Error) -> PyErr {
    PyErr::new::<NativeError, _>((error.message().to_owned(), error.kind().as_str(), error.is_retryable()))
}

//! Message building and compression for Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::to_python;
use crate::codec::compress as codec;
use crate::codec::plain_json;
use crate::message;

#[pyfunction]
pub(super) fn build_envelope<'py>(
    py: Python<'py>,
    body: &[u8],
    headers: &[u8],
    properties: &[u8],
    content_type: &str,
    content_encoding: &str,
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &message::build_envelope(body, headers, properties, content_type, content_encoding))
}

#[pyfunction]
pub(super) fn compress<'py>(py: Python<'py>, name: &str, data: &[u8]) -> PyResult<(Bound<'py, PyBytes>, &'static str)> {
    let (compressed, content_type) = codec::compress(name, data).map_err(to_python)?;
    Ok((PyBytes::new(py, &compressed), content_type))
}

#[pyfunction]
pub(super) fn decompress<'py>(
    py: Python<'py>,
    content_type: &str,
    data: &[u8],
    max_bytes: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let plain = codec::decompress(content_type, data, max_bytes).map_err(to_python)?;
    Ok(PyBytes::new(py, &plain))
}

#[pyfunction]
pub(super) fn is_plain_json(text: &[u8]) -> bool {
    plain_json::is_plain_json(text)
}

//! Building many messages of one task for Python.

use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::convert::field;
use super::errors::to_python;
use crate::publish::{self, Scalar, SeriesParts, SeriesWriter};

/// From `pyworker.publish.templates.SeriesParts`; field names are equal on both sides.
fn series_parts(object: &Bound<'_, PyAny>) -> PyResult<SeriesParts> {
    Ok(SeriesParts {
        head: field(object, "head")?,
        before_index: field(object, "before_index")?,
        before_root: field(object, "before_root")?,
        root_id: field(object, "root_id")?,
        before_repr: field(object, "before_repr")?,
        headers_end: field(object, "headers_end")?,
        properties_head: field(object, "properties_head")?,
        before_tag: field(object, "before_tag")?,
        tag_head: field(object, "tag_head")?,
        body_end: field(object, "body_end")?,
        first_index: field(object, "first_index")?,
        is_amqp: field(object, "is_amqp")?,
    })
}

/// An argument; `None` if it takes more than a look. Subclasses may show themselves otherwise, so only exact types
/// count.
fn scalar<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
    if value.is_none() {
        return Ok(Some(Scalar::Null));
    }
    if let Ok(value) = value.cast_exact::<PyInt>() {
        return Ok(value.extract::<i64>().ok().map(Scalar::Integer));
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(text.to_str().ok().map(Scalar::Text));
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        return Ok(Some(Scalar::Bool(value.is_true())));
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        if !number.value().is_finite() {
            return Ok(None);
        }
        return Ok(Some(Scalar::Float(number.repr()?.to_str()?.to_owned())));
    }
    Ok(None)
}

fn message(
    writer: &mut SeriesWriter<'_>,
    position: usize,
    id: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyAny>,
) -> PyResult<Option<Vec<u8>>> {
    let (Ok(id), Ok(arguments)) = (id.cast::<PyString>(), arguments.cast_exact::<PyTuple>()) else {
        return Ok(None);
    };
    let Ok(id) = id.to_str() else { return Ok(None) };
    let mut scalars = Vec::with_capacity(arguments.len());
    for value in arguments.as_slice() {
        match scalar(value)? {
            Some(found) => scalars.push(found),
            None => return Ok(None),
        }
    }
    writer.message(position as u64, id, &scalars).map_err(to_python)
}

/// See the stub.
#[pyfunction]
pub(super) fn fill_messages<'py>(
    parts: &Bound<'py, PyAny>,
    ids: &Bound<'py, PyList>,
    arguments: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyList>> {
    let parts = series_parts(parts)?;
    let mut writer = SeriesWriter::new(&parts);
    let made = PyList::empty(ids.py());
    for (position, (id, arguments)) in ids.iter().zip(arguments.iter()).enumerate() {
        match message(&mut writer, position, &id, &arguments)? {
            Some(bytes) => made.append(PyBytes::new(ids.py(), &bytes))?,
            None => made.append(ids.py().None())?,
        }
    }
    Ok(made)
}

/// See the stub.
#[pyfunction]
pub(super) fn uuids_of(random: &[u8]) -> Vec<String> {
    publish::uuid_texts(random).collect()
}

//! Publishing for Python: blocks without the GIL.

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyAny;

use super::convert::redis_address;
use super::errors::to_python;
use crate::publish::{self, Outgoing, PublisherOptions};

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct RedisPublisher(publish::RedisPublisher);

#[pymethods]
impl RedisPublisher {
    #[new]
    #[pyo3(signature = (
        address, *, global_keyprefix = String::new(), separator = String::from("\x06\x16"),
        priority_steps = vec![0, 3, 6, 9], max_connections = 10
    ))]
    fn new(
        address: &Bound<'_, PyAny>,
        global_keyprefix: String,
        separator: String,
        priority_steps: Vec<u8>,
        max_connections: usize,
    ) -> PyResult<Self> {
        let options = PublisherOptions {
            address: redis_address(address)?,
            global_keyprefix,
            separator,
            priority_steps,
            max_connections,
        };
        publish::RedisPublisher::new(options).map(Self).map_err(to_python)
    }

    fn publish(&self, py: Python<'_>, queue: &str, priority: i64, message: PyBackedBytes) -> PyResult<()> {
        let outgoing = Outgoing { queue, priority, message: &message };
        py.detach(|| self.0.publish(outgoing)).map_err(to_python)
    }

    fn publish_many(&self, py: Python<'_>, messages: Vec<(PyBackedStr, i64, PyBackedBytes)>) -> PyResult<()> {
        py.detach(|| {
            let outgoing: Vec<Outgoing<'_>> = messages
                .iter()
                .map(|(queue, priority, message)| Outgoing { queue, priority: *priority, message })
                .collect();
            self.0.publish_many(&outgoing)
        })
        .map_err(to_python)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

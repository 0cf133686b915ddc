//! Publishing to RabbitMQ for Python: blocks without the GIL.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyAny;

use super::convert_amqp::{amqp_address, declaration};
use super::errors::to_python;
use crate::publish::amqp::{self, AmqpOutgoing, AmqpPublisherOptions};

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct AmqpPublisher(amqp::AmqpPublisher);

#[pymethods]
impl AmqpPublisher {
    #[new]
    #[pyo3(signature = (addresses, *, confirm = true, timeout_s = 30.0, max_idle = 10))]
    fn new(addresses: Vec<Bound<'_, PyAny>>, confirm: bool, timeout_s: f64, max_idle: usize) -> PyResult<Self> {
        let addresses = addresses.iter().map(amqp_address).collect::<PyResult<Vec<_>>>()?;
        let options = AmqpPublisherOptions { addresses, confirm, timeout_s, max_idle };
        amqp::AmqpPublisher::new(options).map(Self).map_err(to_python)
    }

    fn declare(&self, py: Python<'_>, declarations: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let declarations = declarations.iter().map(declaration).collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.0.declare(&declarations)).map_err(to_python)
    }

    #[pyo3(signature = (messages, *, first = None))]
    fn publish_many(
        &self,
        py: Python<'_>,
        messages: Vec<(PyBackedStr, PyBackedStr, bool, PyBackedBytes)>,
        first: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let first = first.as_ref().map(declaration).transpose()?;
        py.detach(|| {
            let outgoing: Vec<AmqpOutgoing<'_>> = messages
                .iter()
                .map(|(exchange, routing_key, mandatory, message)| AmqpOutgoing {
                    exchange,
                    routing_key,
                    mandatory: *mandatory,
                    message,
                })
                .collect();
            self.0.publish_many(&outgoing, first.as_ref())
        })
        .map_err(to_python)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// See the stub.
#[pyfunction]
pub(super) fn build_amqp_message<'py>(
    body: &'py [u8],
    headers: &[u8],
    properties: &[u8],
    content_type: &str,
    content_encoding: &str,
) -> PyResult<Cow<'py, [u8]>> {
    let message = amqp::build_message(body, headers, properties, content_type, content_encoding);
    message.map(Cow::Owned).map_err(to_python)
}

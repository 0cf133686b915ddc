//! The link between the engine and the Python thread that owns kombu's connection.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyAny;

use super::convert::field;
use super::errors::to_python;
use crate::broker::Settlement;
use crate::broker::kombu::{KombuBrokerConfig, Link, Parcel};

/// Tag, queue, earlier deliveries, headers, properties, body, content type, content encoding.
type Delivery = (u64, u16, u32, PyBackedBytes, PyBackedBytes, PyBackedBytes, String, String);
/// Demand, (tag, end) in order, (index, name, is active) of queues in order, whether to close the connection.
type Work = (u32, Vec<(u64, &'static str)>, Vec<(u16, String, bool)>, bool);

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug, Default)]
pub(super) struct KombuLink(Arc<Link>);

#[pymethods]
impl KombuLink {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn exchange(&self, py: Python<'_>, deliveries: Vec<Delivery>, confirmed: usize) -> Work {
        let parcels = deliveries.into_iter().map(parcel).collect();
        let wishes = py.detach(|| self.0.exchange(parcels, confirmed));
        (
            wishes.demand,
            wishes.settlements.into_iter().map(|(tag, how)| (tag, name(how))).collect(),
            wishes.queues.into_iter().map(|queue| (queue.index, queue.name, queue.is_active)).collect(),
            wishes.is_stopping,
        )
    }

    fn connected(&self) {
        self.0.connected();
    }

    fn disconnected(&self, text: String, retry_in_s: Option<f64>) {
        self.0.disconnected(text, retry_in_s);
    }

    fn degraded(&self, text: String) {
        self.0.degraded(text);
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout_ms = (timeout_s.clamp(0.0, 86_400.0) * 1000.0).ceil() as i32;
        py.detach(|| self.0.wait(timeout_ms)).map_err(to_python)
    }

    fn fileno(&self) -> PyResult<RawFd> {
        self.0.descriptor().map_err(to_python)
    }
}

fn parcel(delivery: Delivery) -> Parcel {
    let (tag, queue, deliveries, headers, properties, body, content_type, content_encoding) = delivery;
    Parcel {
        tag,
        queue,
        deliveries,
        headers: headers.to_vec(),
        properties: properties.to_vec(),
        body: body.to_vec(),
        content_type,
        content_encoding,
    }
}

fn name(how: Settlement) -> &'static str {
    match how {
        Settlement::Ack => "ack",
        Settlement::Reject => "reject",
        Settlement::Requeue => "requeue",
        Settlement::Release => "release",
        // Parked messages stay where they are.
        Settlement::Park { .. } => "park",
    }
}

pub(super) fn broker(object: &Bound<'_, PyAny>) -> PyResult<KombuBrokerConfig> {
    let link: Py<KombuLink> = object.getattr("link")?.extract()?;
    Ok(KombuBrokerConfig {
        queues: field(object, "queues")?,
        max_message_bytes: field(object, "max_message_bytes")?,
        link: Arc::clone(&link.get().0),
    })
}

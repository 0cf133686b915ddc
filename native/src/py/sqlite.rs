//! The SQLite file for Python: everything blocks without the GIL.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyAny, PyBytes};

use super::convert::{field, queue_order, retry_policy};
use super::errors::to_python;
use crate::broker::Settlement;
use crate::error::{Error, ErrorKind};
use crate::sqlite::chords::ChordPart;
use crate::sqlite::client::SqliteClient;
use crate::sqlite::consumer::{Asked, SqliteConsumer};
use crate::sqlite::{SqliteAddress, SqliteBrokerConfig, SqliteResultConfig, Word};

pub(super) fn address(object: &Bound<'_, PyAny>) -> PyResult<SqliteAddress> {
    Ok(SqliteAddress {
        path: field::<PathBuf>(object, "path")?,
        durable: field(object, "durable")?,
        busy_timeout_ms: (field::<f64>(object, "busy_timeout_s")?.clamp(0.0, 3600.0) * 1000.0) as u32,
    })
}

pub(super) fn broker(object: &Bound<'_, PyAny>) -> PyResult<SqliteBrokerConfig> {
    Ok(SqliteBrokerConfig {
        address: address(&object.getattr("address")?)?,
        queues: field(object, "queues")?,
        priority_steps: field(object, "priority_steps")?,
        queue_order: queue_order(object)?,
        visibility_timeout_s: field(object, "visibility_timeout_s")?,
        owner: field(object, "owner")?,
        retry: retry_policy(&object.getattr("retry")?)?,
        max_message_bytes: field(object, "max_message_bytes")?,
    })
}

pub(super) fn results(object: &Bound<'_, PyAny>) -> PyResult<SqliteResultConfig> {
    Ok(SqliteResultConfig {
        address: address(&object.getattr("address")?)?,
        expires_s: field(object, "expires_s")?,
        retry: retry_policy(&object.getattr("retry")?)?,
    })
}

fn word(name: &str) -> PyResult<Word> {
    match name {
        "queues" => Ok(Word::Queues),
        "results" => Ok(Word::Results),
        other => Err(to_python(Error::new(ErrorKind::Config, format!("wait: nothing is called {other:?}")))),
    }
}

/// Runs without the GIL; errors become Python's.
fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> crate::error::Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(to_python)
}

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct SqliteFile(SqliteClient);

#[pymethods]
impl SqliteFile {
    #[new]
    #[pyo3(signature = (address, *, priority_steps = vec![0, 3, 6, 9]))]
    fn new(py: Python<'_>, address: &Bound<'_, PyAny>, priority_steps: Vec<u8>) -> PyResult<Self> {
        let address = self::address(address)?;
        detached(py, || SqliteClient::open(address, priority_steps)).map(Self)
    }

    fn publish_many(&self, py: Python<'_>, messages: Vec<(PyBackedStr, i64, PyBackedBytes)>) -> PyResult<()> {
        detached(py, || self.0.publish(messages.iter().map(|(queue, priority, body)| (&**queue, *priority, &**body))))
    }

    fn publish(&self, py: Python<'_>, queue: &str, priority: i64, message: PyBackedBytes) -> PyResult<()> {
        detached(py, || self.0.publish([(queue, priority, &*message)]))
    }

    fn seen(&self, name: &str) -> PyResult<u32> {
        Ok(self.0.seen(word(name)?))
    }

    fn ring(&self, name: &str, names: Vec<PyBackedBytes>) -> PyResult<()> {
        self.0.wake(word(name)?, &names.iter().map(|name| &**name).collect::<Vec<_>>());
        Ok(())
    }

    fn wait(&self, py: Python<'_>, name: &str, seen: u32, names: Vec<PyBackedBytes>, timeout_s: f64) -> PyResult<bool> {
        let word = word(name)?;
        let most = Duration::from_secs_f64(timeout_s.clamp(0.0, 86_400.0));
        Ok(py.detach(|| {
            let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
            self.0.wait(word, seen, &names, most)
        }))
    }

    fn size(&self, py: Python<'_>, queue: &str) -> PyResult<u64> {
        detached(py, || self.0.size(queue))
    }

    fn purge(&self, py: Python<'_>, queue: &str) -> PyResult<u64> {
        detached(py, || self.0.purge(queue))
    }

    fn declare_queue(&self, py: Python<'_>, queue: &str, expires_s: Option<f64>) -> PyResult<()> {
        detached(py, || self.0.declare_queue(queue, expires_s))
    }

    fn delete_queue(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        detached(py, || self.0.delete_queue(queue))
    }

    fn queues(&self, py: Python<'_>) -> PyResult<Vec<(String, u64, u64, u64)>> {
        let reports = detached(py, || self.0.queues())?;
        Ok(reports.into_iter().map(|queue| (queue.name, queue.ready, queue.scheduled, queue.held)).collect())
    }

    fn get_many<'py>(&self, py: Python<'py>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
        let values = detached(py, || self.0.get_many(&keys.iter().map(|key| &**key).collect::<Vec<_>>()))?;
        Ok(values.into_iter().map(|value| value.map(|value| PyBytes::new(py, &value))).collect())
    }

    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    #[pyo3(signature = (key, value, *, is_success = false, protected = false, expires_s = None))]
    fn set(
        &self,
        py: Python<'_>,
        key: PyBackedBytes,
        value: PyBackedBytes,
        is_success: bool,
        protected: bool,
        expires_s: Option<i64>,
    ) -> PyResult<()> {
        detached(py, || self.0.set(&key, &value, is_success, protected, expires_s))
    }

    fn delete(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<()> {
        detached(py, || self.0.delete(&keys.iter().map(|key| &**key).collect::<Vec<_>>()))
    }

    #[pyo3(signature = (key, by = 1, *, expires_s = None))]
    fn add(&self, py: Python<'_>, key: PyBackedBytes, by: i64, expires_s: Option<i64>) -> PyResult<i64> {
        detached(py, || self.0.add(&key, by, expires_s))
    }

    fn expire(&self, py: Python<'_>, key: PyBackedBytes, expires_s: Option<i64>) -> PyResult<()> {
        detached(py, || self.0.expire(&key, expires_s))
    }

    fn set_chord_size(&self, py: Python<'_>, chord: &str, size: i64, expires_s: Option<i64>) -> PyResult<()> {
        detached(py, || self.0.set_chord_size(chord, size, expires_s))
    }

    fn grow_chord(&self, py: Python<'_>, chord: &str) -> PyResult<()> {
        detached(py, || self.0.grow_chord(chord))
    }

    #[pyo3(signature = (chord, task, position, value, *, token, claim_s, expires_s))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn add_chord_part(
        &self,
        py: Python<'_>,
        chord: &str,
        task: &str,
        position: f64,
        value: PyBackedBytes,
        token: &str,
        claim_s: f64,
        expires_s: Option<f64>,
    ) -> PyResult<u8> {
        let part = ChordPart { chord, task, position, value: &value, token, claim_s, expires_s };
        detached(py, || self.0.add_chord_part(&part)).map(|counted| counted as u8)
    }

    fn extend_chord_claim(&self, py: Python<'_>, chord: &str, token: &str, claim_s: f64) -> PyResult<bool> {
        detached(py, || self.0.extend_chord_claim(chord, token, claim_s))
    }

    fn chord_parts<'py>(&self, py: Python<'py>, chord: &str) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let parts = detached(py, || self.0.chord_parts(chord))?;
        Ok(parts.into_iter().map(|part| PyBytes::new(py, &part)).collect())
    }

    fn finish_chord(&self, py: Python<'_>, chord: &str, token: &str) -> PyResult<()> {
        detached(py, || self.0.finish_chord(chord, token))
    }

    fn bind(&self, py: Python<'_>, exchange: &str, binding: (String, String, String)) -> PyResult<()> {
        detached(py, || self.0.bind(exchange, &binding))
    }

    fn unbind(&self, py: Python<'_>, exchange: &str, binding: (String, String, String)) -> PyResult<()> {
        detached(py, || self.0.unbind(exchange, &binding))
    }

    fn bindings(&self, py: Python<'_>, exchange: &str) -> PyResult<Vec<(String, String, String)>> {
        detached(py, || self.0.bindings(exchange))
    }

    fn broadcast(&self, py: Python<'_>, exchange: &str, message: PyBackedBytes) -> PyResult<()> {
        detached(py, || self.0.broadcast(exchange, &message))
    }

    fn listeners(&self, py: Python<'_>, exchange: &str) -> PyResult<Vec<String>> {
        detached(py, || self.0.listeners(exchange))
    }

    fn last_broadcast(&self, py: Python<'_>) -> PyResult<i64> {
        detached(py, || self.0.last_broadcast())
    }

    fn broadcasts_after<'py>(
        &self,
        py: Python<'py>,
        after: i64,
        most: usize,
    ) -> PyResult<Vec<(i64, String, Bound<'py, PyBytes>)>> {
        let found = detached(py, || self.0.broadcasts_after(after, most))?;
        Ok(found.into_iter().map(|(id, exchange, body)| (id, exchange, PyBytes::new(py, &body))).collect())
    }

    fn problems(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        detached(py, || self.0.problems())
    }

    fn vacuum(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.0.vacuum())
    }

    fn tidy(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.0.tidy())
    }

    #[getter]
    fn clock_ahead_s(&self) -> f64 {
        self.0.clock_ahead_s()
    }

    fn move_clock(&self, by_s: f64) -> PyResult<()> {
        let by = Duration::try_from_secs_f64(by_s).map_err(|_| {
            to_python(Error::new(ErrorKind::Config, format!("a clock is moved ahead, not by {by_s} seconds")))
        })?;
        self.0.move_clock(by).map_err(to_python)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Number, place of the queue, earlier deliveries, envelope.
type Delivery<'py> = (u64, u16, u32, Bound<'py, PyBytes>);

/// See the stub.
#[pyclass(frozen, module = "pyworker._native", name = "SqliteConsumer")]
#[derive(Debug)]
pub(super) struct PySqliteConsumer {
    file: Py<SqliteFile>,
    consumer: SqliteConsumer,
}

#[pymethods]
impl PySqliteConsumer {
    #[new]
    fn new(file: Py<SqliteFile>, owner: String, lease_s: f64) -> Self {
        let lease = Duration::from_secs_f64(lease_s.clamp(1.0, 1e9));
        Self { file, consumer: SqliteConsumer::new(owner, lease) }
    }

    #[pyo3(signature = (queue, exchange = None))]
    fn consume(&self, py: Python<'_>, queue: &str, exchange: Option<&str>) -> PyResult<()> {
        let client = &self.file.get().0;
        detached(py, || self.consumer.consume(client, queue, exchange))
    }

    fn cancel(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        let client = &self.file.get().0;
        detached(py, || self.consumer.cancel(client, queue))
    }

    fn fetch<'py>(
        &self,
        py: Python<'py>,
        queues: Vec<(PyBackedStr, bool)>,
        want: usize,
    ) -> PyResult<Vec<Delivery<'py>>> {
        let client = &self.file.get().0;
        let fetched = detached(py, || {
            let asked: Vec<Asked<'_>> =
                queues.iter().map(|(queue, forgets)| Asked { queue, forgets: *forgets }).collect();
            self.consumer.fetch(client, &asked, want)
        })?;
        Ok(fetched
            .into_iter()
            .map(|(id, queue, deliveries, body)| (id, queue, deliveries, PyBytes::new(py, &body)))
            .collect())
    }

    fn settle(&self, py: Python<'_>, ids: Vec<u64>, how: &str) -> PyResult<()> {
        let how = match how {
            "ack" => Settlement::Ack,
            "requeue" => Settlement::Requeue,
            "release" => Settlement::Release,
            other => return Err(to_python(Error::new(ErrorKind::Config, format!("settle: no end {other:?}")))),
        };
        let client = &self.file.get().0;
        detached(py, || self.consumer.settle(client, &ids, how))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let client = &self.file.get().0;
        detached(py, || self.consumer.close(client))
    }
}

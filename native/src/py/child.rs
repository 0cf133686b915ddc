//! A child's end of its pool link, for Python.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::errors::to_python;
use crate::error::{Error, ErrorKind};
use crate::pool::child::{ChildEnd, Claim, RunningJob, Waited};
use crate::pool::frames::{JobFrame, Outcome};

/// How long a child waits for a fresh lease before it looks again.
const HELD_WAIT_MS: i32 = 10;
/// How long a child waits for the store before it runs pending signal handlers.
const FLUSH_WAIT_MS: i32 = 100;

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct ChildLink {
    end: Mutex<ChildEnd>,
    job: Arc<RunningJob>,
}

impl ChildLink {
    fn lock(&self) -> PyResult<MutexGuard<'_, ChildEnd>> {
        // Only a signal handler that interrupts the link's own waiting can find it locked.
        self.end.try_lock().map_err(|_| {
            to_python(Error::new(ErrorKind::Internal, "the pool link is in use: called from a signal handler?"))
        })
    }
}

fn job_tuple<'py>(py: Python<'py>, job: &JobFrame<'_>) -> PyResult<Bound<'py, PyTuple>> {
    (
        job.sequence,
        job.task_index,
        PyBytes::new(py, job.headers),
        PyBytes::new(py, job.properties),
        PyBytes::new(py, job.body),
        interned(py, job.content_type),
        interned(py, job.content_encoding),
        job.flags,
    )
        .into_pyobject(py)
}

/// Content types and encodings are few and repeated; bytes that are not text become their escaped form.
fn interned<'py>(py: Python<'py>, text: &[u8]) -> Bound<'py, PyString> {
    match text {
        b"application/json" => pyo3::intern!(py, "application/json").clone(),
        b"utf-8" => pyo3::intern!(py, "utf-8").clone(),
        _ => PyString::new(py, &String::from_utf8_lossy(text)),
    }
}

#[pymethods]
impl ChildLink {
    #[new]
    #[expect(unsafe_code, reason = "takes over descriptors that Python received")]
    fn new(memory_fd: RawFd, socket_fd: RawFd) -> PyResult<Self> {
        if memory_fd < 0 || socket_fd < 0 {
            return Err(to_python(Error::new(ErrorKind::Config, "memory_fd and socket_fd must be open descriptors")));
        }
        // SAFETY: the caller hands both over, as the stub says.
        let (memory, socket) = unsafe { (OwnedFd::from_raw_fd(memory_fd), OwnedFd::from_raw_fd(socket_fd)) };
        let end = ChildEnd::open(memory, socket).map_err(to_python)?;
        let job = end.running_job();
        Ok(Self { end: Mutex::new(end), job })
    }

    fn next_job<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.lock()?.report_up().map_err(to_python)?;
        loop {
            let claim = self.lock()?.try_claim(|job| job_tuple(py, job)).map_err(to_python)?;
            let timeout_ms = match claim {
                Claim::Job(job) => return job.map(Some),
                Claim::Shutdown => return Ok(None),
                Claim::Empty => -1,
                Claim::Held => HELD_WAIT_MS,
            };
            // Those that came since the last task's end: they interrupted nothing that would have noticed.
            py.check_signals()?;
            let waited = {
                let mut guard = self.lock()?;
                let end = &mut *guard;
                py.detach(|| end.wait(timeout_ms)).map_err(to_python)?
            };
            match waited {
                Waited::PeerGone => return Ok(None),
                Waited::Interrupted => py.check_signals()?,
                Waited::Woken => {}
            }
        }
    }

    fn store(&self, sequence: u64, key: &[u8], value: &[u8], is_success: bool) -> PyResult<()> {
        self.lock()?.store(sequence, key, value, is_success).map_err(to_python)
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let number = self.lock()?.begin_flush().map_err(to_python)?;
        loop {
            {
                let mut guard = self.lock()?;
                let end = &mut *guard;
                if end.flush_state(number).map_err(to_python)? {
                    return Ok(());
                }
                let waited = py.detach(|| end.wait(FLUSH_WAIT_MS)).map_err(to_python)?;
                if waited == Waited::PeerGone {
                    let text = "the worker's main process is gone; results are not stored";
                    return Err(to_python(Error::new(ErrorKind::Connection, text)));
                }
            }
            py.check_signals()?;
        }
    }

    fn finish(&self, py: Python<'_>, sequence: u64, outcome: u32, runtime_s: f64, text: &str) -> PyResult<()> {
        let outcome = Outcome::from_number(outcome)
            .ok_or_else(|| to_python(Error::new(ErrorKind::Config, format!("outcome: {outcome} is not one"))))?;
        let mut raised = None;
        let finished = self.lock()?.finish(sequence, outcome, runtime_s, text.as_bytes(), || {
            // Who sends a signal again is another thread.
            py.detach(std::thread::yield_now);
            py.check_signals().map_err(|error| {
                raised = Some(error);
                Error::new(ErrorKind::Internal, "a signal handler raised")
            })
        });
        match (finished, raised) {
            (_, Some(error)) => Err(error),
            (finished, None) => finished.map_err(to_python),
        }
    }

    fn soft_timeout_hit(&self) -> bool {
        self.job.take_soft_limit()
    }

    fn set_put_off(&self, put_off: bool) {
        self.job.set_put_off(put_off);
    }

    fn running(&self) -> u64 {
        self.job.sequence()
    }

    fn retire(&self) {
        self.job.retire();
    }
}

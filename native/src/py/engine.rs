//! The engine, for the parent's Python side.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict};

use super::convert::engine_config;
use super::convert_amqp;
use super::errors::to_python;
use super::probes::Probes;
use crate::engine::command::{Command, JobsIn, Verdict};
use crate::engine::events::EventSettings;
use crate::engine::notice::{Content, Notice, NoticeKind};
use crate::engine::operations::Operation;
use crate::engine::{Node, Shared, build};
use crate::error::{Error, ErrorKind, Result};

/// How long a question to the engine's thread may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Signals are looked for this often while Python waits for the engine's end.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// See the stub.
#[pyclass(frozen, name = "Notice", module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct PyNotice(Notice);

#[pymethods]
impl PyNotice {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.as_str()
    }
    #[getter]
    fn reason(&self) -> &'static str {
        self.0.reason.as_str()
    }
    #[getter]
    fn handle(&self) -> u64 {
        self.0.handle
    }
    #[getter]
    fn task_index(&self) -> i64 {
        self.0.task_index
    }
    #[getter]
    fn task_id(&self) -> &str {
        &self.0.content.task_id
    }
    #[getter]
    fn task_name(&self) -> &str {
        &self.0.content.task_name
    }
    #[getter]
    fn headers(&self) -> &[u8] {
        &self.0.content.headers
    }
    #[getter]
    fn properties(&self) -> &[u8] {
        &self.0.content.properties
    }
    #[getter]
    fn body(&self) -> &[u8] {
        &self.0.content.body
    }
    #[getter]
    fn content_type(&self) -> &str {
        &self.0.content.content_type
    }
    #[getter]
    fn content_encoding(&self) -> &str {
        &self.0.content.content_encoding
    }
    #[getter]
    fn redelivered(&self) -> bool {
        self.0.redelivered
    }
    #[getter]
    fn queue(&self) -> &str {
        &self.0.queue
    }
    #[getter]
    fn raw(&self) -> &[u8] {
        &self.0.raw
    }
    #[getter]
    fn pid(&self) -> i32 {
        self.0.pid
    }
    #[getter]
    fn index(&self) -> u32 {
        self.0.index
    }
    #[getter]
    fn status(&self) -> i32 {
        self.0.status
    }
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.seconds
    }
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }
    #[getter]
    fn requeue(&self) -> bool {
        self.0.requeue
    }
    fn __repr__(&self) -> String {
        let notice = &self.0;
        format!("<Notice: {} {} {}>", notice.kind.as_str(), notice.reason.as_str(), notice.content.task_id)
    }
}

/// The engine's thread, before and after its start.
#[derive(Debug)]
enum Thread {
    Ready(Box<Node>),
    Running(JoinHandle<Result<()>>),
    Over,
}

/// See the stub.
#[pyclass(frozen, module = "pyworker._native")]
#[derive(Debug)]
pub(super) struct Engine {
    shared: Arc<Shared>,
    thread: Mutex<Thread>,
    probes: Probes,
    task_names: Vec<String>,
}

/// Blocks all signals in the calling thread: they are the business of Python's main thread.
#[expect(unsafe_code, reason = "pthread_sigmask")]
pub(super) fn leave_signals_to_python() {
    // SAFETY: a set is filled and applied to this thread alone.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut signals);
        libc::pthread_sigmask(libc::SIG_SETMASK, &signals, std::ptr::null_mut());
    }
}

/// Runs the node with all signals left to Python's main thread. An end that nobody asked for is told to Python.
fn run_node(node: Box<Node>, shared: &Shared) -> Result<()> {
    leave_signals_to_python();
    let panicked = |_| Err(Error::new(ErrorKind::Internal, "the engine's thread panicked"));
    let result = catch_unwind(AssertUnwindSafe(|| node.run())).unwrap_or_else(panicked);
    shared.close();
    if let Err(error) = &result {
        shared.notify(&mut vec![Notice { text: error.to_string(), ..Notice::new(NoticeKind::Stopped) }]);
    }
    result
}

impl Engine {
    /// Asks the engine's thread and waits without the GIL; `None` when it is over.
    fn ask<T: Send>(&self, py: Python<'_>, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (sender, receiver): (Sender<T>, Receiver<T>) = channel();
        self.shared.send(command(sender));
        let receiver = Mutex::new(receiver);
        py.detach(|| receiver.lock().ok()?.recv_timeout(ANSWER_LIMIT).ok())
    }

    fn operate(&self, operation: Operation) {
        self.shared.send(Command::Operate(Box::new(operation)));
    }

    fn ask_operation<T: Send>(&self, py: Python<'_>, operation: impl FnOnce(Sender<T>) -> Operation) -> Option<T> {
        self.ask(py, |reply| Command::Operate(Box::new(operation(reply))))
    }

    fn join(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *thread, Thread::Over) {
            Thread::Running(handle) => match handle.join() {
                Ok(result) => result,
                Err(_) => Err(Error::new(ErrorKind::Internal, "the engine's thread panicked")),
            },
            Thread::Ready(_) | Thread::Over => Ok(()),
        }
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[expect(unsafe_code, reason = "takes over a descriptor that Python made")]
    fn new(config: &Bound<'_, PyAny>, forkserver_fd: RawFd) -> PyResult<Self> {
        let config = engine_config(config)?;
        if forkserver_fd < 0 {
            return Err(to_python(Error::new(ErrorKind::Config, "forkserver_fd must be an open descriptor")));
        }
        // SAFETY: the caller hands it over, as the stub says.
        let fork_server = unsafe { OwnedFd::from_raw_fd(forkserver_fd) };
        let task_names = config.tasks.iter().map(|task| task.name.clone()).collect();
        let (node, shared) = build(config, fork_server).map_err(to_python)?;
        Ok(Self { probes: Probes::default(), task_names, shared, thread: Mutex::new(Thread::Ready(Box::new(node))) })
    }

    fn start(&self) -> PyResult<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *thread, Thread::Over) {
            Thread::Ready(node) => {
                let shared = Arc::clone(&self.shared);
                let handle = std::thread::Builder::new()
                    .name("pyworker-engine".into())
                    .spawn(move || run_node(node, &shared))
                    .map_err(|error| to_python(error.into()))?;
                *thread = Thread::Running(handle);
                Ok(())
            }
            other => {
                *thread = other;
                Err(to_python(Error::new(ErrorKind::Config, "the engine was started before")))
            }
        }
    }

    fn serve_probes(&self, address: &str) -> PyResult<String> {
        self.probes.start(&self.shared, address, self.task_names.clone()).map_err(to_python)
    }

    fn set_gauges(&self, gauges: Vec<(String, String, String, f64)>) {
        self.probes.set_gauges(gauges);
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> PyResult<Vec<PyNotice>> {
        let timeout_ms = if timeout_s < 0.0 { -1 } else { (timeout_s * 1000.0).min(2e9) as i32 };
        py.detach(|| self.shared.wait(timeout_ms));
        py.check_signals()?;
        Ok(self.shared.take_notices().into_iter().map(PyNotice).collect())
    }

    fn wake(&self) {
        self.shared.ring();
    }

    fn resolve(&self, handle: u64, verdict: &str) -> PyResult<()> {
        let verdict = Verdict::from_name(verdict)
            .ok_or_else(|| to_python(Error::new(ErrorKind::Config, format!("verdict: {verdict:?} is not one"))))?;
        self.shared.send(Command::Resolve(handle, verdict));
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a message, once per protocol 1 message")]
    fn replace(
        &self,
        handle: u64,
        headers: Vec<u8>,
        properties: Vec<u8>,
        body: Vec<u8>,
        content_type: String,
        content_encoding: String,
        task_id: String,
        task_name: String,
    ) {
        let content = Content { task_id, task_name, headers, properties, body, content_type, content_encoding };
        self.shared.send(Command::Replace(handle, Box::new(content)));
    }

    #[pyo3(signature = (task_name, task_id, *, headers, body))]
    fn call(&self, task_name: String, task_id: String, headers: Vec<u8>, body: Vec<u8>) {
        let content = Content {
            task_id,
            task_name,
            headers,
            properties: br#"{"body_encoding": "base64"}"#.to_vec(),
            body,
            content_type: "application/x-pyworker-call".into(),
            content_encoding: "binary".into(),
        };
        self.shared.send(Command::Call(Box::new(content)));
    }

    fn stop_consuming(&self) {
        self.shared.send(Command::StopConsuming);
    }

    #[pyo3(signature = (*, deadline_s))]
    fn stop(&self, py: Python<'_>, deadline_s: Option<f64>) -> PyResult<usize> {
        let (sender, receiver) = channel();
        self.shared.send(Command::Stop(deadline_s, sender));
        let receiver = Mutex::new(receiver);
        let not_started =
            matches!(*self.thread.lock().unwrap_or_else(PoisonError::into_inner), Thread::Ready(_) | Thread::Over);
        if not_started {
            return Ok(0);
        }
        let running = loop {
            let answer = py.detach(|| {
                let began = Instant::now();
                let answer = receiver.lock().map(|receiver| receiver.recv_timeout(SIGNAL_INTERVAL));
                (answer.ok().and_then(std::result::Result::ok), began.elapsed() < SIGNAL_INTERVAL)
            });
            match answer {
                (Some(running), _) => break running,
                // Dropped without an answer: a later stop took over, or the thread ended.
                (None, true) => break 0,
                (None, false) => py.check_signals()?,
            }
        };
        py.detach(|| self.join()).map_err(to_python)?;
        Ok(running)
    }

    #[pyo3(signature = (task_ids, *, signal))]
    fn terminate(&self, py: Python<'_>, task_ids: Vec<String>, signal: i32) -> Vec<String> {
        self.ask(py, |reply| Command::Terminate(task_ids, signal, reply)).unwrap_or_default()
    }

    fn revoke(&self, task_ids: Vec<String>) {
        self.shared.send(Command::Revoke(task_ids));
    }

    fn set_rate_limit(&self, task_index: u16, per_s: Option<f64>) -> PyResult<()> {
        if per_s.is_some_and(|per_s| !(per_s > 0.0 && per_s.is_finite())) {
            return Err(to_python(Error::new(ErrorKind::Config, "rate_limit: must be a positive number per second")));
        }
        self.operate(Operation::RateLimit { task: task_index, per_s });
        Ok(())
    }

    fn set_time_limits(&self, task_index: u16, soft_s: Option<f64>, hard_s: Option<f64>) {
        self.operate(Operation::TimeLimits { task: task_index, soft_s, hard_s });
    }

    fn set_queue_active(&self, py: Python<'_>, name: String, active: bool) -> PyResult<()> {
        match self.ask_operation(py, |reply| Operation::Queue { name, active, reply }) {
            Some(answer) => answer.map_err(to_python),
            None => Err(to_python(Error::new(ErrorKind::Internal, "the engine is over"))),
        }
    }

    fn declare_queue(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        declarations: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let queue = convert_amqp::queue(queue)?;
        let declarations = declarations.iter().map(convert_amqp::declaration).collect::<PyResult<Vec<_>>>()?;
        match self.ask_operation(py, |reply| Operation::DeclareQueue { queue, declarations, reply }) {
            Some(answer) => answer.map_err(to_python),
            None => Err(to_python(Error::new(ErrorKind::Internal, "the engine is over"))),
        }
    }

    fn grow(&self, py: Python<'_>, count: u32) -> u32 {
        self.ask_operation(py, |reply| Operation::Grow { count, reply }).unwrap_or_default()
    }

    fn shrink(&self, py: Python<'_>, count: u32) -> u32 {
        self.ask_operation(py, |reply| Operation::Shrink { count, reply }).unwrap_or_default()
    }

    fn restart_children(&self) {
        self.operate(Operation::Restart);
    }

    fn watch_stamps(&self) {
        self.operate(Operation::WatchStamps);
    }

    #[pyo3(signature = (*, count, life_s))]
    fn set_revoke_bounds(&self, count: usize, life_s: f64) {
        let life = Duration::try_from_secs_f64(life_s).unwrap_or(Duration::MAX);
        self.operate(Operation::RevokeBounds { count, life });
    }

    #[pyo3(signature = (enabled, *, pid, utc_offset_h, silent_tasks))]
    fn set_task_events(&self, enabled: bool, pid: u32, utc_offset_h: f64, silent_tasks: Vec<u16>) {
        self.operate(Operation::Events(EventSettings { enabled, pid, utc_offset_h, silent_tasks }));
    }

    fn send_task_event(&self, kind: String, task_id: String, members: Vec<u8>) {
        self.operate(Operation::Event { kind, task_id, members });
    }

    fn clock(&self) -> u64 {
        self.shared.clock()
    }

    fn forward_clock(&self) -> u64 {
        self.shared.forward_clock()
    }

    fn adjust_clock(&self, other: u64) -> u64 {
        self.shared.adjust_clock(other)
    }

    fn jobs(&self, py: Python<'_>, which: &str) -> PyResult<Vec<PyNotice>> {
        let which = match which {
            "active" => JobsIn::Active,
            "reserved" => JobsIn::Reserved,
            "scheduled" => JobsIn::Scheduled,
            other => return Err(to_python(Error::new(ErrorKind::Config, format!("jobs: no state {other:?}")))),
        };
        let notices = self.ask(py, |reply| Command::Jobs(which, reply)).unwrap_or_default();
        Ok(notices.into_iter().map(PyNotice).collect())
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        for (name, value) in self.ask(py, Command::Counters).unwrap_or_default() {
            counters.set_item(name, value)?;
        }
        Ok(counters)
    }

    fn children(&self, py: Python<'_>) -> Vec<(u32, i32, u64)> {
        self.ask(py, Command::Children).unwrap_or_default()
    }

    fn fileno(&self) -> RawFd {
        self.shared.bell()
    }
}

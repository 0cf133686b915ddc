"""One job through Celery's own worker code or through a lane of ours, and everything that could be seen of it.

The stage keeps one timeline: signals, log records, result writes, published messages and what the task itself saw,
in the order in which they happened. Two stages ran the same if their timelines are equal after ids that differ by
nature (times, traceback frames of the tracer) were put away.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import celery.app.trace as celery_trace
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Celery, signals
from celery._state import _set_task_join_will_block
from celery.app.task import Context
from celery.worker.request import Request
from kombu import compression
from kombu.message import Message
from kombu.serialization import dumps

from pyworker.compat.celery.fast_lane import make_tracer
from pyworker.compat.celery.lanes import lane_of
from pyworker.compat.celery.result_writer import ResultWriter
from pyworker.worker.config import Lane
from pyworker.worker.protocol import TRACEBACK_MARK, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTNAME = "worker@stage"
TASK_ID = "3f1c7b0a-9a52-4b1c-8f6e-5d5f0a1b2c3d"
MODES = ("celery", "library", "fast")

#: Signals of a task's life with the order of nothing else.
_SIGNALS = (
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_internal_error",
    "before_task_publish",
)
_EVENT_OUTCOMES = {"task-succeeded": Outcome.SUCCESS, "task-failed": Outcome.FAILURE, "task-retried": Outcome.RETRY}
_FLOAT = re.compile(r"\d+\.\d+(e-\d+)?s")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(\+\d\d:\d\d)?")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class Link:
    """The pool link's place: what the engine would get."""

    def __init__(self, timeline: list[Any], read: Callable[[bytes], Any]) -> None:
        self._timeline = timeline
        self._read = read
        self.ended: tuple[int, Outcome, str] | None = None
        self._running = 0
        self._successes: set[bytes] = set()

    def begin(self, sequence: int) -> None:
        """Claim a job."""
        self._running = sequence
        self.ended = None

    def store(self, sequence: int, key: bytes, value: bytes, is_success: bool) -> None:
        """Take a write; a stored SUCCESS stays, as the engine's contract says."""
        if key in self._successes:
            return
        if is_success:
            self._successes.add(key)
        self._timeline.append(("store", key.decode(), stored_meta(value, self._read)))
        status = stored_meta(value, self._read).get("status")
        assert status is None or is_success == (status == "SUCCESS")
        assert sequence == (self._running if key.decode().endswith(TASK_ID) else 0)

    def flush(self) -> None:
        """Everything is stored as soon as it is written here."""

    def finish(self, sequence: int, outcome: int, runtime_s: float, text: str) -> None:
        """End the job."""
        assert sequence == self._running
        assert isinstance(runtime_s, float)
        text.encode()
        self._running = 0
        self.ended = (sequence, Outcome(outcome), text)

    def running(self) -> int:
        """The claimed job."""
        return self._running


class RedisClient:
    """The Redis server's place for what Celery's backend does itself."""

    def __init__(self, timeline: list[Any], read: Callable[[bytes], Any]) -> None:
        self._timeline = timeline
        self._read = read
        self.values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def pipeline(self) -> RedisClient:
        return self

    def __enter__(self) -> RedisClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setex(self, key: bytes, _expires: int, value: Any) -> None:
        self.set(key, value)

    def set(self, key: bytes, value: Any) -> None:
        data = value.encode() if isinstance(value, str) else value
        self.values[key] = data
        self._timeline.append(("store", key.decode(), stored_meta(data, self._read)))

    def publish(self, _key: bytes, _value: Any) -> None:
        pass

    def pubsub(self, **_: Any) -> RedisClient:
        return self

    def subscribe(self, *_keys: bytes) -> None:
        pass

    def unsubscribe(self, *_keys: bytes) -> None:
        pass

    def execute(self) -> None:
        pass


def stored_meta(data: bytes, read: Callable[[bytes], Any]) -> Any:
    """Read a stored meta; JSON as pairs, because its order is part of the format."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        meta = json.loads(text)
    except ValueError:
        return read(data)
    if isinstance(meta, dict):
        # Bytes that a decoder would not tell apart count too.
        meta["_text"] = _UUID.sub("<id>", _DATE.sub("<date>", text if meta.get("traceback") is None else ""))
    return meta


class Stage:
    """A worker child with its app, in one of :data:`MODES`."""

    def __init__(self, mode: str, define: Callable[[Celery, list[Any]], None], **settings: Any) -> None:
        self.mode = mode
        self.timeline: list[Any] = []
        self.app = Celery("stage", broker="memory://", backend="redis://stage.invalid/0", set_as_current=True)
        self.app.conf.update(
            {
                "task_publish_retry": False,
                "result_accept_content": ["json", "yaml", "pickle", "msgpack"],
                "broker_connection_timeout": 1,
                "worker_hijack_root_logger": False,
                **settings,
            }
        )
        define(self.app, self.timeline)
        self.app.finalize()
        self.app.backend.__dict__["client"] = RedisClient(self.timeline, self.app.backend.decode)
        # Results that the task's own calls promise are not waited for here.
        self.app.backend.on_task_call = lambda *_, **__: {}
        self.link = Link(self.timeline, self.app.backend.decode)
        self.names = sorted(self.app.tasks)

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """Connect everything that watches, and prepare the child."""
        with _watching(self.timeline):
            celery_trace.setup_worker_optimizations(self.app, HOSTNAME)
            _set_task_join_will_block(True)
            try:
                for name, task in self.app.tasks.items():
                    task.__trace__ = celery_trace.build_tracer(name, task, self.app.loader, HOSTNAME, app=self.app)
                if self.mode != "celery":
                    self._make_tracer()
                yield self
            finally:
                _set_task_join_will_block(False)
                celery_trace.reset_worker_optimizations(self.app)

    def _make_tracer(self) -> None:
        lane = Lane.FAST if self.mode == "fast" else Lane.LIBRARY
        lanes = [lane_of(self.app, self.app.tasks[name])[0] for name in self.names]
        if self.mode == "fast":
            assert set(lanes) == {Lane.FAST}, [lane_of(self.app, self.app.tasks[name]) for name in self.names]
        writer = ResultWriter(self.app.backend, self.link)  # type: ignore[arg-type]
        natives = frozenset(self.names)
        lanes = [lane] * len(lanes)
        self.tracer = make_tracer(self.app, HOSTNAME, self.names, lanes, writer, natives)
        writer.install()

    def run(
        self,
        task: str,
        args: Any = (),
        kwargs: Any = None,
        *,
        headers: Mapping[str, Any] | None = None,
        embed: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        serializer: str = "json",
        compress: str | None = None,
        raw_body: tuple[str, str, bytes] | None = None,
    ) -> tuple[Outcome, str]:
        """Run one message; returns the outcome and its text."""
        all_headers = {
            "lang": "py",
            "task": task,
            "id": TASK_ID,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": TASK_ID,
            "parent_id": None,
            "argsrepr": repr(args),
            "kwargsrepr": repr(kwargs or {}),
            "origin": "gen1@stage",
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            **(headers or {}),
        }
        options = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **(embed or {})}
        content_type, encoding, body = raw_body or dumps(
            [list(args), {} if kwargs is None else kwargs, options], serializer=serializer
        )
        body = body.encode() if isinstance(body, str) else body
        if compress:
            body, all_headers["compression"] = compression.compress(body, compress)
        all_properties = {
            "correlation_id": TASK_ID,
            "reply_to": "3c9d",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "tag",
            **(properties or {}),
        }
        run = self._run_by_celery if self.mode == "celery" else self._run_by_us
        return run(all_headers, all_properties, body, content_type, encoding)

    def _run_by_us(
        self, headers: Any, properties: Any, body: bytes, content_type: str, encoding: str
    ) -> tuple[Outcome, str]:
        self.link.begin(7)
        index = self.names.index(headers["task"])
        parts = (json.dumps(headers).encode(), json.dumps(properties).encode(), body)
        self.tracer.run((7, index, *parts, content_type, encoding, 0), self.link)
        assert self.link.ended is not None
        _, outcome, text = self.link.ended
        # The traceback follows, for events.
        return outcome, text.partition(TRACEBACK_MARK)[0]

    def _run_by_celery(
        self, headers: Any, properties: Any, body: bytes, content_type: str, encoding: str
    ) -> tuple[Outcome, str]:
        message = Message(
            body=body,
            headers=json.loads(json.dumps(headers)),
            properties=json.loads(json.dumps(properties)),
            delivery_info=dict(properties["delivery_info"]),
            content_type=content_type,
            content_encoding=encoding,
            accept=celery_trace.prepare_accept_content(self.app.conf.accept_content),
        )
        ends = _Ends()
        request = Request(
            message,
            app=self.app,
            hostname=HOSTNAME,
            on_ack=ends.on_ack,
            on_reject=ends.on_reject,
            eventer=ends,
        )
        arguments = (request.type, request.id, request.request_dict, request.body, request.content_type)
        try:
            result = celery_trace.fast_trace_task(*arguments, request.content_encoding)
        except Exception:
            result = None
            failure = ExceptionInfo()
        else:
            # The pool sends it through a pipe, which takes the wrapper off the exception.
            result = pickle.loads(pickle.dumps(result))
        seen = list(self.timeline)
        if result is None:
            request.on_failure(failure)
        else:
            request.on_success(result)
        if result is not None:
            # What the parent adds is not the child's to do.
            self.timeline[:] = seen
        return ends.outcome()


class _Ends:
    """What a request tells its broker and its events when its job has ended."""

    enabled = True

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.requeue: bool | None = None

    def on_ack(self, *_: Any) -> None:
        pass

    def on_reject(self, _logger: Any, _errors: Any, requeue: bool) -> None:
        self.requeue = requeue

    def send(self, kind: str, **fields: Any) -> None:
        self.events.append((kind, fields))

    def outcome(self) -> tuple[Outcome, str]:
        """Read the outcome as the engine's numbers name it."""
        if self.requeue is not None:
            return (Outcome.REJECTED_REQUEUE if self.requeue else Outcome.REJECTED), ""
        if not self.events:
            return Outcome.IGNORED, ""
        kind, fields = self.events[-1]
        text = fields.get("result") if kind == "task-succeeded" else fields.get("exception")
        return _EVENT_OUTCOMES[kind], text or ""


@contextmanager
def _watching(timeline: list[Any]) -> Iterator[None]:
    receivers = []
    for name in _SIGNALS:
        signal = getattr(signals, name)

        def receive(signal: Any, sender: Any, _name: str = name, **fields: Any) -> None:
            sender_name = getattr(sender, "name", sender)
            timeline.append(("signal", _name, sender_name, [(key, plain(fields[key])) for key in fields]))

        signal.connect(receive, weak=False)
        receivers.append((signal, receive))
    handler = _Recorder(timeline)
    logger = logging.getLogger("celery")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        for signal, receive in receivers:
            signal.disconnect(receive)


class _Recorder(logging.Handler):
    def __init__(self, timeline: list[Any]) -> None:
        super().__init__()
        self._timeline = timeline

    def emit(self, record: logging.LogRecord) -> None:
        data = plain(getattr(record, "data", None))
        if isinstance(data, list):
            data = [pair for pair in data if pair[0] not in ("runtime", "traceback")]
        error = record.exc_info[0] if record.exc_info else None
        place: tuple[Any, ...] = (record.name, record.levelno)
        if record.funcName in ("info", "_log_error"):
            place = (*place, record.funcName, record.filename)
        self._timeline.append(("log", place, _FLOAT.sub("<time>", plain(record.getMessage())), data, error))


def plain(value: Any) -> Any:
    """Return something comparable: no identities, no times, contexts as their attributes."""
    if isinstance(value, Context):
        return [(key, plain(each)) for key, each in sorted(vars(value).items())]
    if isinstance(value, ExceptionWithTraceback):
        return ("with traceback", plain(value.exc))
    if isinstance(value, BaseException):
        return (type(value).__name__, _ADDRESS.sub("<address>", str(value)))
    if isinstance(value, ExceptionInfo):
        return ("einfo", value.type.__name__, value.internal, plain(value.exception))
    if isinstance(value, Mapping):
        return [(key, plain(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return "<float>"
    if isinstance(value, str):
        text = value.encode("ascii", "backslashreplace").decode()
        if text.startswith("Traceback (most recent call last)"):
            text = text.splitlines()[-1]
        return _UUID.sub("<id>", _ADDRESS.sub("<address>", _DATE.sub("<date>", text)))
    if value is None or isinstance(value, (int, bytes)):
        return value
    return getattr(value, "name", None) or type(value).__name__


def compared(timeline: list[Any]) -> list[Any]:
    """Return a timeline without what may differ: dates, and the tracer's own lines in stored tracebacks."""
    result = []
    for entry in timeline:
        if entry[0] == "store":
            meta = dict(entry[2])
            if meta.get("date_done"):
                assert _DATE.fullmatch(meta["date_done"])
                meta["date_done"] = "<date>"
            result.append(("store", entry[1], list(meta), plain(meta)))
        else:
            result.append(entry)
    return result

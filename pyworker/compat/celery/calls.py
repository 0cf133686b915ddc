"""Functions that the application hands to the pool itself, and messages that it holds meanwhile.

A strategy of its own (celery-batches) may keep messages, hand the pool one function for many of them, and acknowledge
them when the pool has begun or is done. The function goes to a child as a job of the engine that no broker knows of;
the child tells of its beginning and its end over a datagram socket that was made before the fork.
"""

from __future__ import annotations

import json
import os
import pickle
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billiard.common import human_status
from billiard.einfo import ExceptionInfo
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from kombu.utils.uuid import uuid

from pyworker.worker.protocol import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import ChildLink, Engine, Job, Notice
    from pyworker.compat.celery.messages import VerdictChannel

logger = get_logger("celery.pool")

#: A return value larger than this stays in the child; the callback gets ``None``.
_VALUE_BYTES_MAX = 64 * 1024
_DATAGRAM_BYTES_MAX = 2 * _VALUE_BYTES_MAX
#: How long a stop waits between two looks at what still runs. Two looks without a call make sure: a call that was on
#: its way to a child at the first is running at the second, or gone.
_LOOK_S = 0.05
#: Registered by Celery itself: the task whose name a call has that belongs to none.
_ANY_TASK = "celery.backend_cleanup"


@dataclass
class _Call:
    """What is to be told about a call."""

    target: Any
    on_accepted: Callable[[int, float], object] | None
    on_returned: Callable[[Any], object] | None
    on_error: Callable[[ExceptionInfo], object] | None


class CallDesk:
    """The parent's part. Made before the fork server is forked; children use :meth:`runner`."""

    def __init__(self, task_names: Callable[[], Any]) -> None:
        #: Stands in the headers of every call: what a producer sends cannot pass for one.
        self._secret = secrets.token_hex(16)
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._task_names = task_names
        self._calls: dict[str, _Call] = {}
        self._held: dict[int, None] = {}
        self._lock = threading.Lock()
        self._marks: dict[str, threading.Event] = {}
        self._engine: Engine | None = None
        self._is_stopping = False

    @property
    def is_open(self) -> bool:
        """Whether the pool can be used by the application."""
        return self._sockets is not None

    def open(self) -> None:
        """Make what children will tell of calls by; before the fork."""
        self._sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            # The listener reads this as its end: closing alone would not wake it.
            sockets[1].send(pickle.dumps(("end", "", None, None)))
            sockets[1].close()

    def attach(self, engine: Engine) -> None:
        """Begin to listen; after the fork."""
        self._engine = engine
        if self._sockets is None:
            return
        threading.Thread(target=self._listen, args=self._sockets[:1], name="pyworker-calls", daemon=True).start()

    # -- the pool's interface

    def submit(
        self,
        target: Any,
        args: Any = (),
        kwargs: Any = None,
        *,
        accept_callback: Callable[[int, float], object] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[ExceptionInfo], object] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_options: Any,
    ) -> str:
        """Have a child run a function; returns the call's id. Callbacks run in a thread of the parent.

        Raises:
            pickle.PicklingError: function or arguments cannot go to another process.
        """
        if self._engine is None or self._sockets is None:
            raise RuntimeError("the pool does not run")
        args = tuple(args or ())
        body = pickle.dumps((target, args, dict(kwargs or {})))
        call_id = str(uuid())
        name = next((each.name for each in args[:1] if getattr(each, "name", None) in self._task_names()), _ANY_TASK)
        described = f"<{getattr(target, '__name__', target)!s} called by {name}>"
        headers = {
            "lang": "py",
            "task": name,
            "id": call_id,
            "root_id": call_id,
            "timelimit": [timeout, soft_timeout],
            "argsrepr": described,
            "kwargsrepr": "{}",
            "pyworker_call": self._secret,
        }
        with self._lock:
            self._calls[call_id] = _Call(target, accept_callback, callback, error_callback)
        self._engine.call(name, call_id, headers=json.dumps(headers).encode(), body=body)
        return call_id

    # -- messages that a strategy keeps

    def hold(self, notice: Notice, channel: VerdictChannel) -> Verdict:
        """Keep a message until the strategy settles it."""
        handle = notice.handle

        def settle(verdict: Verdict) -> None:
            with self._lock:
                is_held = handle in self._held
                self._held.pop(handle, None)
            if is_held and self._engine is not None:
                self._engine.resolve(handle, verdict.value)  # type: ignore[arg-type]

        with self._lock:
            if self._is_stopping:
                return Verdict.REQUEUE
            self._held[handle] = None
        decided = channel.hold(settle)
        if decided is not None:
            with self._lock:
                self._held.pop(handle, None)
            return decided
        return Verdict.HOLD

    def stop(self) -> None:
        """Hand back what is held as soon as no call runs any more. Returns at once."""
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
            if not self._held and not self._calls:
                return
        threading.Thread(target=self._hand_back, name="pyworker-hand-back", daemon=True).start()

    def _hand_back(self) -> None:
        assert self._engine is not None
        pause = threading.Event()
        quiet_looks = 0
        while quiet_looks < 2:
            pause.wait(_LOOK_S)
            running = {job.task_id for job in self._engine.jobs("active")}
            with self._lock:
                quiet_looks = 0 if running & self._calls.keys() else quiet_looks + 1
        # What the children said last is read before anything is decided.
        mark = uuid()
        self._marks[mark] = read = threading.Event()
        if self._sockets is not None:
            self._sockets[1].send(pickle.dumps(("mark", mark, None, None)))
            read.wait()
        with self._lock:
            handles = list(self._held)
            self._held.clear()
        for handle in handles:
            self._engine.resolve(handle, "requeue")

    # -- what became of a call

    def owns(self, notice: Notice) -> bool:
        """Whether a delivery is a call of ours."""
        return self._secret.encode() in notice.headers

    def on_notice(self, notice: Notice) -> Verdict:
        """The pool ended a call by force, or is about to."""
        if notice.reason == "soft_timeout":
            logger.warning("Soft time limit (%ss) exceeded for %s", notice.seconds, self._name_of(notice.task_id))
            return Verdict.ACK
        error: Exception = WorkerLostError(f"Worker exited prematurely: {human_status(notice.status)}.")
        if notice.reason == "hard_timeout":
            error = TimeLimitExceeded(notice.seconds)
        logger.error("%s did not end: %r", self._name_of(notice.task_id), error)
        self._fail(notice.task_id, error)
        return Verdict.ACK

    def _name_of(self, call_id: str) -> str:
        call = self._calls.get(call_id)
        return f"{getattr(call.target, '__name__', call.target)!s}[{call_id}]" if call else call_id

    def _fail(self, call_id: str, error: BaseException) -> None:
        with self._lock:
            call = self._calls.pop(call_id, None)
        if call is not None and call.on_error is not None:
            try:
                raise error
            except BaseException:
                self._tell(call.on_error, ExceptionInfo())

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while self._hear(*pickle.loads(reader.recv(_DATAGRAM_BYTES_MAX))):
                pass

    def _hear(self, kind: str, call_id: str, first: Any, second: Any) -> bool:
        """Take what a child says; false at the end."""
        if kind == "mark":
            self._marks.pop(call_id).set()
            return True
        with self._lock:
            call = self._calls.get(call_id) if kind == "accepted" else self._calls.pop(call_id, None)
        if call is None:
            return kind != "end"
        if kind == "accepted" and call.on_accepted is not None:
            self._tell(call.on_accepted, first, second)
        elif kind == "returned" and call.on_returned is not None:
            self._tell(call.on_returned, first)
        elif kind == "failed" and call.on_error is not None:
            self._tell(call.on_error, first)
        return True

    def _tell(self, callback: Callable[..., object], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.exception("Pool callback raised exception")

    # -- the child's part

    def runner(self, run: Callable[[Job, ChildLink], None]) -> Callable[[Job, ChildLink], None]:
        """What runs jobs in a child: calls here, everything else by ``run``."""
        assert self._sockets is not None
        mark, writer = self._secret.encode(), self._sockets[1]

        def run_any(job: Job, link: ChildLink) -> None:
            if mark in job[2]:
                _run_call(job, link, writer)
            else:
                run(job, link)

        return run_any


def _run_call(job: Job, link: ChildLink, writer: socket.socket) -> None:
    sequence, headers, body = job[0], job[2], job[4]
    call_id = json.loads(headers)["id"]
    began = time.monotonic()
    _send(writer, "accepted", call_id, os.getpid(), began)
    try:
        target, args, kwargs = pickle.loads(body)
        value = target(*args, **kwargs)
    except Exception as error:
        logger.error("Pool function %s raised: %r", call_id, error, exc_info=True)
        _send(writer, "failed", call_id, ExceptionInfo(), None)
        link.finish(sequence, Outcome.FAILURE, time.monotonic() - began, repr(error)[:1024])
        return
    # Before the end is told: whoever sees the job gone finds this in the socket.
    _send(writer, "returned", call_id, value, None)
    link.finish(sequence, Outcome.SUCCESS, time.monotonic() - began, "")


def _send(writer: socket.socket, kind: str, call_id: str, first: Any, second: Any) -> None:
    try:
        data = pickle.dumps((kind, call_id, first, second))
    except Exception as error:
        logger.warning("what %s returned cannot go to the main process: %r", call_id, error)
        data = b""
    if not data or len(data) > _VALUE_BYTES_MAX:
        data = pickle.dumps((kind, call_id, None, None))
    writer.send(data)

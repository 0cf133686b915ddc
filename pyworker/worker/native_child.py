"""A child of the pool that runs the tasks of our own app."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

from pyworker._native import NativeError
from pyworker.backends.chords import ChordParts
from pyworker.backends.redis import RedisBackend
from pyworker.backends.rpc import RpcBackend
from pyworker.backends.sqlite import SqliteBackend
from pyworker.backends.sqlite_chords import SqliteChordParts
from pyworker.current import Stack, set_current_app, set_joins_block, task_stack
from pyworker.exceptions import BackendStoreError, OperationalError, Reject, SoftTimeLimitExceeded
from pyworker.publish.registered import json_is_kombus
from pyworker.request import KNOWN_KEYS, Context
from pyworker.saferepr import saferepr
from pyworker.signals import (
    task_postrun,
    task_prerun,
    task_success,
    worker_process_init,
    worker_process_shutdown,
)
from pyworker.task import Task
from pyworker.worker.bodies import BodyDecoder
from pyworker.worker.native_outcomes import NativeErrors, NativeRuns
from pyworker.worker.native_repeats import deduplicating
from pyworker.worker.trace_hooks import TracerHooks
from pyworker.worker.tracing import ContextStack, MetaEncoder, TaskBinding, Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import ChildLink
    from pyworker.app import Celery

_MAIN_PID = os.getpid()


class NativeTaskRunner:
    """Runs the jobs of one child.

    Attributes:
        run: runs one claimed job and reports it.
        soft_time_limit_error: raised in a task whose soft time limit is over.
    """

    soft_time_limit_error: type[BaseException] = SoftTimeLimitExceeded

    def __init__(self, tracer: Tracer) -> None:
        self.run = tracer.run


class _Job:
    """Which job runs, and where its results go."""

    def __init__(self, link: ChildLink) -> None:
        self.sequence = 0
        self.task_id = ""
        self._link = link
        self._process_id = os.getpid()
        self._thread_id = threading.get_ident()

    def _owns_the_link(self) -> bool:
        """Whether this is the child's main thread, not one of a task's own threads or a process that it forked."""
        return threading.get_ident() == self._thread_id and os.getpid() == self._process_id

    def write(self, task_id: str, key: bytes, value: bytes, is_success: bool) -> bool:
        """Give a result to the engine, with the job if it is the job's own; returns whether it took it."""
        if not self._owns_the_link():
            return False
        try:
            self._link.store(self.sequence if task_id == self.task_id else 0, key, value, is_success)
        except NativeError as error:
            raise BackendStoreError(str(error)) from error
        return True

    def flush(self) -> None:
        """Wait until everything written is in the store."""
        if not self._owns_the_link():
            return
        try:
            self._link.flush()
        except NativeError as error:
            raise BackendStoreError(str(error)) from error


def start_native_child(
    app: Celery, hostname: str, link: ChildLink, index: int, names: Sequence[str]
) -> NativeTaskRunner:
    """Initialise this process and return what runs its tasks."""
    if os.getpid() != _MAIN_PID:
        multiprocessing.current_process().name = f"ForkPoolWorker-{index + 1}"
    set_current_app(app)
    set_joins_block(True)
    if os.getpid() != _MAIN_PID:
        app.on_after_fork.send(sender=app)
    worker_process_init.send(sender=None)
    tasks = [app.tasks[name] for name in names]
    backend = app.backend
    job = None
    if isinstance(backend, (RedisBackend, SqliteBackend, RpcBackend)):
        if isinstance(backend, RedisBackend):
            backend.chord_parts = ChordParts(backend)
        elif isinstance(backend, SqliteBackend):
            backend.chord_parts = SqliteChordParts(backend)
        job = _Job(link)
        backend.sink = job.write
        backend.before_read = job.flush
    hooks = _hooks(app, hostname, tasks, job)
    return NativeTaskRunner(Tracer([_bind(app, task, backend) for task in tasks], hooks))


def stop_native_child(app: Celery, pid: int, exitcode: int) -> None:
    """Say goodbye (``worker_process_shutdown``)."""
    if os.getpid() != _MAIN_PID:
        worker_process_shutdown.send(sender=None, pid=pid, exitcode=exitcode)


def _hooks(app: Celery, hostname: str, tasks: list[Task[Any, Any]], job: _Job | None) -> TracerHooks:
    bodies = BodyDecoder(app.conf.accept_content)
    return TracerHooks(
        context_type=Context,
        known_keys=KNOWN_KEYS,
        sets_time_limits=True,
        protects_stack=False,
        decode_json=kombu_json.loads,
        json_is_plain=bodies.reads_plain_json,
        decode_body=bodies,
        encoder=_encoder(app),
        errors=NativeErrors(app),
        library=NativeRuns(app, tasks),
        sends_followers=True,
        explicit_ignore=True,
        publish_errors=(EncodeError, OperationalError),
        reraised_errors=(MemoryError, Reject),
        hostname=hostname,
        process_id=os.getpid(),
        prerun_receivers=task_prerun.receivers,
        postrun_receivers=task_postrun.receivers,
        success_receivers=task_success.receivers,
        send_prerun=task_prerun.send,
        send_postrun=task_postrun.send,
        send_success=task_success.send,
        success_has_runtime=True,
        logs_success=logging.getLogger("celery.app.trace").isEnabledFor(logging.INFO),
        task_stack=_access(task_stack),
        text_of=saferepr,
        time_limit_error=SoftTimeLimitExceeded,
        writer=job,
    )


def _access(stack: Stack[Any]) -> ContextStack:
    return ContextStack(stack.push, stack.pop, None, None)


def _bind(app: Celery, task: Task[Any, Any], backend: Any) -> TaskBinding:
    kind = type(task)
    stores = isinstance(backend, (RedisBackend, SqliteBackend)) and _is_plain(app)
    body = task if kind.__call__ is not Task.__call__ else task.run
    if task.acks_late and app.conf.worker_deduplicate_successful_tasks:
        body = deduplicating(app, task, body)
    return TaskBinding(
        task=task,
        name=task.name,
        function=body,
        backend=backend,
        request_stack=_access(task.request_stack),
        key_prefix=backend.task_key_prefix.encode() if stores else b"",
        stores_natively=stores,
        result_text_size=task.resultrepr_maxsize,
        deduplicates=False,
        before_start=None if kind.before_start is Task.before_start else task.before_start,
        on_success=None if kind.on_success is Task.on_success else task.on_success,
        after_return=None if kind.after_return is Task.after_return else task.after_return,
        on_task_init=None,
        cleanup=None,
    )


def _is_plain(app: Celery) -> bool:
    """Whether the tracer's own encoder writes what our backend would."""
    conf = app.conf
    return (
        conf.result_serializer == "json"
        and not conf.result_compression
        and not conf.result_extended
        and json_is_kombus()
    )


def _encoder(app: Celery) -> MetaEncoder:
    own = kombu_json.JSONEncoder()
    markers: dict[int, Any] = {}
    make = getattr(json.encoder, "c_make_encoder", None)
    encode = make and make(
        markers, own.default, json.encoder.encode_basestring_ascii, None, own.key_separator, own.item_separator,
        own.sort_keys, own.skipkeys, own.allow_nan,
    )  # fmt: skip
    is_utc = app.now().isoformat().endswith("+00:00") and str(app.timezone) == "UTC"
    return MetaEncoder(
        encode or (lambda value, _level: own.iterencode(value)),
        markers,
        None if is_utc and app.time_source is time.time else (lambda: app.now().isoformat()),
        "+00:00",
    )

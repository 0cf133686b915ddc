"""A child of the pool that runs the tasks of a Celery app: its start, its runner and its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import celery.app.trace
import celery.concurrency.prefork
from celery import signals
from celery._state import _set_task_join_will_block
from celery.backends.rpc import RPCBackend
from celery.exceptions import SoftTimeLimitExceeded

from pyworker.compat.celery.fast_lane import make_tracer
from pyworker.compat.celery.pool_process import become_pool_process, leave_pool_process
from pyworker.compat.celery.result_writer import ResultWriter
from pyworker.compat.celery.rpc_writer import RpcResultWriter
from pyworker.compat.celery.sqlite_settings import result_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import ChildLink
    from pyworker.worker.config import Lane
    from pyworker.worker.tracing import Tracer

#: The process that imported this: the worker's main process, which runs tasks itself only with ``-P solo``.
_MAIN_PID = os.getpid()


class CeleryTaskRunner:
    """Runs the jobs of one child.

    Attributes:
        run: runs one claimed job and reports it.
        soft_time_limit_error: raised in a task whose soft time limit is over.
    """

    soft_time_limit_error: type[BaseException] = SoftTimeLimitExceeded

    def __init__(self, tracer: Tracer, writer: ResultWriter | None) -> None:
        # The tracer's own method: nothing in between is paid for by every task.
        self.run = tracer.run
        self.writer = writer


def start_celery_child(
    app: Any,
    hostname: str,
    link: ChildLink,
    index: int,
    task_names: Sequence[str],
    lanes: Sequence[Lane],
) -> CeleryTaskRunner:
    """Initialise this process as Celery does and return what runs its tasks.

    Args:
        app: the app, finalized in the parent.
        hostname: the worker's node name.
        link: this child's end of its pool link.
        index: this child's place in the pool.
        task_names: names by task index.
        lanes: lanes by task index.
    """
    if os.getpid() == _MAIN_PID:
        _start_solo(app, hostname)
    else:
        become_pool_process(index)
        celery.concurrency.prefork.process_initializer(app, hostname)
    # Before the writer replaces anything that the lanes look at.
    is_native = result_config(app) is not None
    backend = app.backend
    native_tasks = frozenset(name for name in task_names if is_native and app.tasks[name].backend is backend)
    kind = RpcResultWriter if isinstance(backend, RPCBackend) else ResultWriter
    writer = kind(backend, link) if is_native else None
    tracer = make_tracer(app, hostname, task_names, lanes, writer, native_tasks)
    if writer is not None:
        writer.install()
    return CeleryTaskRunner(tracer, writer)


def stop_celery_child(app: Any, pid: int, exitcode: int) -> None:
    """Say goodbye as Celery does (``worker_process_shutdown``)."""
    if os.getpid() != _MAIN_PID:
        leave_pool_process(pid, exitcode)


def _start_solo(app: Any, hostname: str) -> None:
    """Do what Celery's solo pool does in the main process."""
    for name, task in app.tasks.items():
        task.__trace__ = celery.app.trace.build_tracer(name, task, app.loader, hostname, app=app)
    _set_task_join_will_block(True)
    signals.worker_process_init.send(sender=None)

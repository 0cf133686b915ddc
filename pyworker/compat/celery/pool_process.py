"""Makes a forked process look like a child of Celery's prefork pool to code that asks billiard, and end like one."""

from __future__ import annotations

from typing import Any

import billiard.pool
import billiard.process
import billiard.util
import celery.concurrency.prefork
from billiard.context import ForkProcess

from pyworker.compat.celery.lanes import is_own


def become_pool_process(index: int) -> None:
    """Take the name and index of a pool process (log lines, log file names) and run what waits for a fork.

    The registered functions close connections that must not be shared with the parent (kombu's pools, the app's
    producers, the result backend's client).
    """
    process = ForkProcess(name=f"ForkPoolWorker-{index + 1}", daemon=True)
    process._identity = (index + 1,)
    process.index = index
    billiard.process._children = set()
    billiard.process._set_current_process(process)
    billiard.util._finalizer_registry.clear()
    billiard.util._run_after_forkers()


def leave_pool_process(pid: int, exitcode: int) -> None:
    """Call what runs at the end of a pool process: ``worker_process_shutdown``, and what tracing tools put around
    billiard's own loop and exit (Sentry and New Relic send what they hold there)."""
    worker_type = billiard.pool.Worker
    if not is_own(vars(worker_type)["workloop"], billiard.pool, "workloop"):
        try:
            _LeavingWorker(pid, exitcode).workloop(pid=pid)
        except _Left:
            pass
    if is_own(vars(worker_type)["_do_exit"], billiard.pool, "_do_exit"):
        celery.concurrency.prefork.process_destructor(pid, exitcode)
        return
    try:
        _LeavingWorker(pid, exitcode)._do_exit(pid, exitcode)
    except _Left:
        pass


class _Left(BaseException):
    """Ends billiard's own code where it would wait for a job, or end the process."""


class _LeavingWorker(billiard.pool.Worker):
    """A worker of billiard's at the end of its life: its methods are called for what others wrapped them in."""

    def __init__(self, pid: int, exitcode: int) -> None:
        self._process = (pid, exitcode)
        self.outq = self
        self.inqW_fd = self.synqW_fd = None
        self.maxtasks = self.max_memory_per_child = self.on_ready_counter = None
        self.wait_for_syn = None

    def put(self, _message: Any) -> None:
        """Stand where the queue of results is: nobody reads it."""

    def wait_for_job(self) -> None:
        """End the loop."""
        raise _Left

    def on_exit(self, pid: int, exitcode: int) -> None:
        """Do what Celery does at the exit, and keep billiard from ending the process: its caller does."""
        celery.concurrency.prefork.process_destructor(pid, exitcode)
        raise _Left

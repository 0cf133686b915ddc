"""A child of the pool: claims jobs from its link and runs them until it is told to end.

A task runs in the main thread. Signals have the meaning they have in Celery's pool: TERM, QUIT and HUP end the
child by an exception, so that a task's ``finally`` blocks run; USR1 is the soft time limit of the running task,
if the engine marked that task for it. A signal of our own (``CHILD_DUMP_SIGNAL``) writes its stacks. How a child ends:
the engine tells it to (0), memory above the limit (155), ``SystemExit`` from a task (its code; the engine finds the
job unfinished and reports the worker as lost), the parent's death (0).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from pyworker._native import ChildLink
from pyworker.worker.child_signals import install_signal_handlers
from pyworker.worker.memory_limit import MemoryLimit

if TYPE_CHECKING:
    from pyworker.worker.protocol import TaskRunner, WorkerApp

logger = logging.getLogger("pyworker.child")

EXIT_OK = 0
EXIT_FAILURE = 1
#: The child made room for a fresh one.
EXIT_RECYCLE = 0x9B


def run_child(app: WorkerApp, index: int, memory_fd: int, link_fd: int, *, max_memory_kib: int | None = None) -> int:
    """Live as a child of the pool; returns the exit code.

    Args:
        app: the application, loaded before the fork.
        index: this child's place in the pool.
        memory_fd: the link's shared memory; owned from now on.
        link_fd: the link's socket; owned from now on.
        max_memory_kib: resident memory above which the child ends after its task.
    """
    _replace_standard_input()
    link = ChildLink(memory_fd, link_fd)
    try:
        runner = app.child_started(link, index)
        install_signal_handlers(link, runner)
        exit_code = work(runner, link, MemoryLimit(max_memory_kib) if max_memory_kib else None)
    except SystemExit as request:
        exit_code = exit_status(request)
    except BaseException as error:
        logger.error("Pool process %d error: %r", os.getpid(), error, exc_info=True)
        exit_code = EXIT_FAILURE
    app.child_stopping(os.getpid(), exit_code)
    return exit_code


def work(runner: TaskRunner, link: ChildLink, memory_limit: MemoryLimit | None = None) -> int:
    """Run jobs until there are no more for this child; returns the exit code."""
    next_job, run = link.next_job, runner.run
    if memory_limit is None:
        while (job := next_job()) is not None:
            run(job, link)
            # A large body must not stay until the next task comes.
            del job
        return EXIT_OK
    while (job := next_job()) is not None:
        run(job, link)
        del job
        used_kib = memory_limit.exceeded_kib()
        if used_kib:
            logger.warning(
                "child process exiting after exceeding memory limit (%dKiB / %dKiB)", used_kib, memory_limit.limit_kib
            )
            link.retire()
            return EXIT_RECYCLE
    return EXIT_OK


def exit_status(request: SystemExit) -> int:
    """Return the exit code that ``sys.exit`` meant."""
    if request.code is None:
        return EXIT_OK
    return request.code & 0xFF if isinstance(request.code, int) else EXIT_FAILURE


def _replace_standard_input() -> None:
    """A task that reads its standard input finds it empty instead of waiting for the worker's terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open as long as the process lives

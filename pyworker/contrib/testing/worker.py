"""A worker in a thread of this process, for tests: the real engine, with the solo pool.

Tasks run in that thread, one at a time, so they see the test's own objects and a debugger stops in them. Limits and
termination do not exist, as in every solo pool; signals stay the test's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pyworker.compat import adapt
from pyworker.contrib.testing.tasks import ping
from pyworker.current import allow_join_result, current_apps, joins_block, restore_current_apps, set_joins_block
from pyworker.dispatch import Signal
from pyworker.exceptions import ImproperlyConfigured
from pyworker.signals import setup_logging
from pyworker.worker.protocol import WorkerOptions
from pyworker.worker.runner import Runner
from pyworker.worker.signals import SignalInbox

if TYPE_CHECKING:
    from pyworker.app.base import Celery
    from pyworker.worker.config import EngineConfig
    from pyworker.worker.parent_loop import ParentLoop

__all__ = ["TestWorkController", "start_worker", "test_worker_started", "test_worker_starting", "test_worker_stopped"]

#: The apps that workers of this process run.
_running: WeakSet[Celery] = WeakSet()

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")

test_worker_starting = Signal("test_worker_starting")
test_worker_started = Signal("test_worker_started", frozenset({"worker"}))
test_worker_stopped = Signal("test_worker_stopped", frozenset({"worker"}))


class _NoSignals(SignalInbox):
    """Signals belong to the main thread, and that is the test's."""

    def install(self, *, restarts: bool, debugger: Any = None) -> None:
        """Take over nothing."""


class _Node(Runner):
    """One life of the worker; says when it is ready."""

    def __init__(self, app: Celery, options: WorkerOptions) -> None:
        super().__init__(adapt(app), options)
        self.is_ready = threading.Event()
        self.error: BaseException | None = None

    def run_until_stopped(self) -> None:
        """Run in the present thread; what goes wrong is kept."""
        try:
            self.run()
        except BaseException as error:  # raised again in the test's thread
            self.error = error
        finally:
            self.is_ready.set()

    def _make_loop(self, config: EngineConfig) -> ParentLoop:
        loop = super()._make_loop(config)
        loop.inbox = _NoSignals(self.engine.wake)
        return loop

    def _on_first_ready(self) -> None:
        super()._on_first_ready()
        self.is_ready.set()


class TestWorkController:
    """The worker, in a thread of its own.

    Attributes:
        app: the application.

    Raises:
        ImproperlyConfigured: another worker of this process runs the app: its result store writes through that one.
    """

    __test__ = False

    def __init__(self, app: Celery, options: WorkerOptions) -> None:
        if app in _running:
            raise ImproperlyConfigured("a worker of this process runs this app already; make another app for another")
        self.app = app
        self._options = options
        self._is_running = False
        self._node = _Node(app, options)
        self._thread = threading.Thread(target=self._node.run_until_stopped, name="pyworker-test-worker", daemon=True)

    @property
    def hostname(self) -> str:
        """The node's name."""
        return self._node.hostname

    @property
    def is_alive(self) -> bool:
        """Whether the worker's thread runs."""
        return self._thread.is_alive()

    @property
    def exit_code(self) -> int:
        """What a process of its own would have ended with; known when it has stopped."""
        return self._node.loop.exit_code

    def start(self) -> None:
        """Start it and return when it consumes.

        Raises:
            ImproperlyConfigured: the app's settings cannot be used.
        """
        _running.add(self.app)
        self._is_running = True
        with _logging_left_alone(self.app):
            self._thread.start()
            self._node.is_ready.wait()
        if self._node.error is not None:
            raise self._node.error
        # Refused in the worker's thread alone would be right; in one process the test's own waiting comes first.
        set_joins_block(False)

    def request_shutdown(self) -> None:
        """Begin a warm shutdown; for any thread."""
        self._node.request_shutdown()

    def stop(self, timeout: float) -> None:
        """Let the running task end, then stop; again does nothing.

        Args:
            timeout: seconds that this may take.

        Raises:
            RuntimeError: it took longer.
        """
        if not self._is_running:
            return
        if self._node.error is None and self._thread.is_alive():
            self.request_shutdown()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise RuntimeError(
                f"the worker's thread did not end within {timeout} s; raise shutdown_timeout if its task takes longer"
            )
        self._is_running = False
        _running.discard(self.app)

    def reload(self, timeout: float = 10.0) -> None:
        """Start anew, so that tasks defined since are known; what was reserved is handed back and comes again.

        Args:
            timeout: seconds that the running task may take.

        Raises:
            RuntimeError: it took longer.
        """
        self.stop(timeout)
        self._node = _Node(self.app, self._options)
        self._thread = threading.Thread(target=self._node.run_until_stopped, name="pyworker-test-worker", daemon=True)
        self.start()


@contextmanager
def start_worker(
    app: Celery,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    hostname: str | None = None,
    queues: str | list[str] | tuple[str, ...] = (),
    **options: Any,
) -> Iterator[TestWorkController]:
    """Run a worker in a thread for the time of a ``with`` block, in which its app is the current one.

    Args:
        app: the application.
        concurrency, pool: 1 and ``solo``: there is no other pool in a thread.
        loglevel, logfile: of the worker, if the app's settings let it set up logging.
        perform_ping_check: send it a task before the block begins.
        ping_task_timeout: seconds that the task may take.
        shutdown_timeout: seconds that the running task may take when the block ends.
        hostname: the node's name.
        queues: what to consume from, if not the app's own queues.
        options: of :class:`pyworker.worker.protocol.WorkerOptions`; Celery's ``without_*`` options among them.

    Raises:
        ImproperlyConfigured: another pool is asked for, or the app's settings cannot be used.
        RuntimeError: the worker's task did not end in time.
    """
    if pool != "solo" or concurrency != 1:
        raise ImproperlyConfigured(f"pool={pool!r}, concurrency={concurrency}: in a thread only solo, of one, can run")
    named = tuple(queues.split(",")) if isinstance(queues, str) and queues else tuple(queues)
    wanted = WorkerOptions(
        pool="solo", concurrency=1, loglevel=loglevel, logfile=logfile, quiet=True, hostname=hostname, queues=named,
        is_embedded=True, **options,
    )  # fmt: skip
    test_worker_starting.send(sender=app)
    worker = TestWorkController(app, wanted)
    blocked_before, apps_before = joins_block(), current_apps()
    app.set_current()
    try:
        worker.start()
        test_worker_started.send(sender=app, worker=worker)
        if perform_ping_check:
            with allow_join_result():
                answer = app.tasks[ping.name].delay().get(timeout=ping_task_timeout)
            assert answer == "pong"
        yield worker
    finally:
        worker.stop(shutdown_timeout)
        set_joins_block(blocked_before)
        restore_current_apps(apps_before)
        # The store was the worker's too: the next use opens a new one.
        app.close()
        test_worker_stopped.send(sender=app, worker=worker)


@contextmanager
def _logging_left_alone(app: Celery) -> Iterator[None]:
    """Keep the worker from setting up logging unless the app's settings say so: it is the test runner's."""
    if app.conf.worker_hijack_root_logger:
        yield
        return

    def leave_alone(**_signal: Any) -> None:
        """Being there is enough."""

    setup_logging.connect(leave_alone)
    try:
        yield
    finally:
        setup_logging.disconnect(leave_alone)

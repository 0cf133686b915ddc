"""The parent's loop: engine notices in, decisions out, stop signals in between.

It runs in the main thread, except for ``-P solo``, where the main thread runs tasks and this loop a thread of its
own. Signal handlers always run in the main thread; they and other threads only leave a note and wake the loop.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from pyworker.worker.notices import NoticeDispatcher
from pyworker.worker.orphans import OrphanReaper
from pyworker.worker.shutdown import (
    EXIT_FAILURE,
    EXIT_OK,
    Phase,
    Shutdown,
    ShutdownPolicy,
    termination_signal,
)
from pyworker.worker.signals import CHILD_DUMP_SIGNAL, DUMP_SIGNAL, RESTART_SIGNAL, SignalInbox, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine
    from pyworker.worker.connection_log import ConnectionLog
    from pyworker.worker.protocol import WorkerApp

logger = logging.getLogger("celery.worker")

#: How often a quiet worker looks for orphans to reap.
_HOUSEKEEPING_S = 10.0
#: How often a stopping worker looks whether its tasks are done.
_STOPPING_STEP_S = 0.02
#: How long cancelled tasks have to end before their processes are killed.
_COLD_GRACE_S = 5.0


class _Effects:
    """What a shutdown does, bound to one engine and application."""

    def __init__(self, app: WorkerApp, engine: Engine, *, can_cancel: bool) -> None:
        self._app = app
        self._engine = engine
        self._can_cancel = can_cancel

    def say(self, text: str) -> None:
        say(text)

    def warn(self, text: str) -> None:
        logger.warning("%s", text)

    def announce(self, signal_name: str, how: str, exit_code: int) -> None:
        try:
            self._app.on_stopping(signal_name, how, exit_code)
        except Exception:
            # A receiver's mistake must not keep the worker from stopping.
            logger.exception("a receiver of worker_shutting_down failed")

    def stop_consuming(self) -> None:
        self._engine.stop_consuming()

    def cancel_running(self) -> None:
        if self._can_cancel:
            # One by one and not all at once: each then comes back as a terminated delivery, and the application
            # says whether it is told as a retry or goes back to its queue.
            running = [job.task_id for job in self._engine.jobs("active")]
            self._engine.terminate(running, signal=termination_signal())

    def is_busy(self) -> bool:
        return bool(self._engine.jobs("active"))


class ParentLoop:
    """Serves the engine's notices until the worker shall end, then takes the engine down."""

    def __init__(
        self,
        app: WorkerApp,
        engine: Engine,
        connection: ConnectionLog,
        policy: ShutdownPolicy,
        *,
        can_cancel: bool = True,
        on_first_ready: Callable[[], None],
    ) -> None:
        """Args:
        can_cancel: whether tasks run in processes of their own that can be signalled.
        on_first_ready: called once, when the worker consumes for the first time.
        """
        self._engine = engine
        self._can_cancel = can_cancel
        self._effects = _Effects(app, engine, can_cancel=can_cancel)
        self._shutdown = Shutdown(self._effects, policy, time.monotonic)
        self._dispatcher = NoticeDispatcher(app, engine, connection, self)
        self._orphans = OrphanReaper(time.monotonic)
        self._requested_exit_codes: deque[int] = deque()
        self._on_first_ready = on_first_ready
        self._is_ready = False
        self._engine_stopped = False
        self._cold_deadline: float | None = None
        self.inbox = SignalInbox(engine.wake)
        #: SIGHUP came: start the program anew once everything is down.
        self.wants_restart = False

    @property
    def phase(self) -> Phase:
        """How far the shutdown is."""
        return self._shutdown.phase

    @property
    def exit_code(self) -> int:
        """The process's exit code so far."""
        return self._shutdown.exit_code

    @property
    def is_stopping(self) -> bool:
        """Whether a shutdown has begun."""
        return self._shutdown.phase is not Phase.RUNNING

    def request_shutdown(self, exit_code: int = EXIT_OK) -> None:
        """Begin a warm shutdown; for any thread."""
        self._requested_exit_codes.append(exit_code)
        self._engine.wake()

    def run(self) -> None:
        """Dispatch notices until nothing runs any more and a shutdown was asked for."""
        next_sweep = time.monotonic() + _HOUSEKEEPING_S
        while not self._is_finished():
            self._serve(_STOPPING_STEP_S if self.is_stopping else _HOUSEKEEPING_S)
            self._obey()
            if time.monotonic() >= next_sweep:
                self._orphans.sweep({pid for _index, pid, _started in self._engine.children()})
                next_sweep = time.monotonic() + _HOUSEKEEPING_S

    def stop_engine(self) -> None:
        """Take the engine down. Its last steps may need verdicts from here, so notices are served meanwhile.

        The running tasks had their time in :meth:`run`; what still runs is killed.
        """
        if self._engine_stopped:
            return  # it ended by itself; nobody would answer
        stopper = threading.Thread(
            target=self._engine.stop, kwargs={"deadline_s": 0.0}, name="pyworker-stop", daemon=True
        )
        stopper.start()
        while stopper.is_alive() and self._shutdown.phase is not Phase.HARD:
            self._serve(_STOPPING_STEP_S)
            self._obey()
        self._serve(0)

    def _serve(self, timeout_s: float) -> None:
        for notice in self._engine.wait(timeout_s):
            self._dispatcher.dispatch(notice)

    # -- the listener of the dispatcher

    def on_ready(self) -> None:
        """The engine consumes, for the first time or again."""
        if not self._is_ready:
            self._is_ready = True
            self._on_first_ready()

    def on_gave_up(self) -> None:
        """No broker and no further attempt."""
        self._shutdown.request_warm(EXIT_FAILURE)

    def on_crippled(self) -> None:
        """Without a fork server no child can be replaced: finish what runs, and let somebody start us anew."""
        self._shutdown.request_warm(EXIT_FAILURE)

    def on_stopped(self, text: str) -> None:
        """The engine's thread ended; unless asked for, that is the end of the worker too."""
        self._engine_stopped = True
        if not self.is_stopping:
            logger.critical("Unrecoverable error: %s", text or "the engine stopped")
            self._shutdown.request_warm(EXIT_FAILURE)

    # -- steps

    def _obey(self) -> None:
        for name in self.inbox.take():
            if name == DUMP_SIGNAL:
                say(children_at_work(self._engine), descriptor=2)
                if self._can_cancel:
                    have_children_write_stacks(self._engine)
            elif name != RESTART_SIGNAL:
                self._shutdown.on_signal(name)
            elif not self.is_stopping:
                self._effects.say(f"Restarting celery worker ({' '.join(sys.argv)})")
                self.wants_restart = True
                self._shutdown.request_warm()
        while self._requested_exit_codes:
            self._shutdown.request_warm(self._requested_exit_codes.popleft())
        self._shutdown.tick()

    def _is_finished(self) -> bool:
        phase = self._shutdown.phase
        if self._engine_stopped or phase is Phase.HARD:
            return True
        if phase is Phase.COLD and self._can_cancel:
            if self._cold_deadline is None:
                self._cold_deadline = time.monotonic() + _COLD_GRACE_S
            if time.monotonic() >= self._cold_deadline:
                return True
        return phase in (Phase.WARM, Phase.COLD) and not self._effects.is_busy()


def children_at_work(engine: Engine) -> str:
    """What every child runs, and for how long, a line each."""
    running = {job.pid: job for job in engine.jobs("active")}
    lines = []
    for index, pid, started in engine.children():
        job = running.pop(pid, None)
        what = "idle" if job is None else f"{job.task_name}[{job.task_id}] for {time.time() - job.seconds:.1f} s"
        lines.append(f"ForkPoolWorker-{index + 1} (pid {pid}, {started} tasks started): {what}")
    return "\n".join(["CHILDREN", "=" * 49, *lines])


def have_children_write_stacks(engine: Engine) -> None:
    """Ask the children that run tasks; the others wait for one, and a new one may not know the signal yet."""
    for pid in {job.pid for job in engine.jobs("active") if job.pid > 0}:
        try:
            os.kill(pid, CHILD_DUMP_SIGNAL)
        except ProcessLookupError:
            pass  # it ended meanwhile

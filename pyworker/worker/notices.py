"""What the parent does with each notice of the engine. Nothing here waits; the loop that calls it does."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Protocol

from pyworker.worker.operated import OperatedApp
from pyworker.worker.protocol import Verdict, WorkerApp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyworker._native import Engine, Notice
    from pyworker.worker.connection_log import ConnectionLog

logger = logging.getLogger("celery.worker")
pool_logger = logging.getLogger("multiprocessing")

#: Exit codes of a child that ended as it should: done, or replaced (billiard's ``EX_RECYCLE``).
_EXPECTED_STATUS = (0, 155)


class NoticeListener(Protocol):
    """The runner, as far as notices concern it."""

    def on_ready(self) -> None:
        """The engine consumes."""

    def on_gave_up(self) -> None:
        """The engine cannot go on: no broker, and no further attempt is allowed."""

    def on_crippled(self) -> None:
        """The engine lost what it cannot replace: it goes on with what it has, but not for long."""

    def on_stopped(self, text: str) -> None:
        """The engine's thread ended."""

    @property
    def is_stopping(self) -> bool:
        """Whether a shutdown has begun."""


class NoticeDispatcher:
    """Turns notices into calls of the application and log lines."""

    def __init__(self, app: WorkerApp, engine: Engine, connection: ConnectionLog, listener: NoticeListener) -> None:
        self._app = app
        self._engine = engine
        self._connection = connection
        self._listener = listener
        self._handlers: Mapping[str, Callable[[Notice], None]] = {
            "ready": self._on_ready,
            "disconnected": self._on_disconnected,
            "child_started": self._on_child_started,
            "child_exited": self._on_child_exited,
            "received": self._on_received,
            "log": self._on_log,
            "stopped": self._on_stopped,
            "delivery": self._on_delivery,
            "events": self._on_events,
        }
        self._operated = app if isinstance(app, OperatedApp) else None
        self._is_lost = False

    def dispatch(self, notice: Notice) -> None:
        """Handle one notice; an error in the application's code is logged and stays here."""
        handler = self._handlers.get(notice.kind)
        if handler is None:
            logger.error("unknown notice of the engine: %r", notice.kind)
            return
        handler(notice)

    def _on_ready(self, _notice: Notice) -> None:
        self._connection.on_connected()
        self._listener.on_ready()
        if self._is_lost and self._operated is not None:
            self._operated.on_reconnected()
        self._is_lost = False

    def _on_disconnected(self, notice: Notice) -> None:
        if not self._connection.on_disconnected(notice.text, notice.seconds):
            self._listener.on_gave_up()
        if notice.requeue and not self._is_lost:
            self._is_lost = True
            if self._operated is not None:
                self._operated.on_connection_lost()

    def _on_events(self, notice: Notice) -> None:
        if self._operated is not None:
            self._operated.publish_events(notice.raw)

    def _on_child_started(self, notice: Notice) -> None:
        pool_logger.debug("child %d started: pid %d", notice.index, notice.pid)

    def _on_child_exited(self, notice: Notice) -> None:
        if notice.status in _EXPECTED_STATUS or self._listener.is_stopping:
            return
        name = f"ForkPoolWorker-{notice.index + 1}"
        pool_logger.error("Process %r pid:%r exited with %r", name, notice.pid, human_status(notice.status))

    def _on_received(self, notice: Notice) -> None:
        try:
            self._app.on_received(notice)
        except Exception:
            logger.exception("cannot log the receipt of task %s", notice.task_id)

    def _on_log(self, notice: Notice) -> None:
        logger.log(notice.status, "%s", notice.text)
        if notice.status >= logging.CRITICAL:
            self._listener.on_crippled()

    def _on_stopped(self, notice: Notice) -> None:
        self._listener.on_stopped(notice.text)

    def _on_delivery(self, notice: Notice) -> None:
        try:
            verdict = self._app.on_delivery(notice)
        except Exception as error:
            # The first time the message gets another chance, here or elsewhere; a second failure is its own.
            verdict = Verdict.REJECT if notice.redelivered else Verdict.REQUEUE
            logger.critical(
                "Task %s[%s] (%s) raised in the main process and is %sed: %r",
                notice.task_name,
                notice.task_id,
                notice.reason,
                verdict.value,
                error,
                exc_info=True,
            )
        if notice.handle and verdict is not Verdict.HOLD:
            self._engine.resolve(notice.handle, verdict.value)


def human_status(status: int) -> str:
    """A child's exit status in billiard's words."""
    if status >= 0:
        return f"exitcode {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"

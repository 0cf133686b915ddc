"""Celery's remote control panel on top of the engine.

The commands are Celery's own functions, and the application's; before one that looks at requests runs, Celery's books
(``celery.worker.state``) are filled from the engine, so that it finds what it expects and replies in its own shape.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celery.utils.collections import AttributeDict
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.control import Panel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyworker._native import Engine, Notice
    from pyworker.compat.celery.request_facade import Requests
    from pyworker.worker.control import ControlledWorker

logger = get_logger("celery.worker.control")

_CELERYS_MODULE = "celery.worker.control"
#: Celery's commands that read requests, with the engine's jobs they need.
_READERS: Mapping[str, tuple[str, ...]] = {
    "active": ("active",),
    "dump_active": ("active",),
    "reserved": ("reserved",),
    "dump_reserved": ("reserved",),
    "query_task": ("active", "reserved", "scheduled"),
    "revoke": ("active", "reserved", "scheduled"),
    "terminate": ("active", "reserved", "scheduled"),
    "revoke_by_stamped_headers": ("active",),
}


class PanelControl:
    """Runs the commands of Celery's panel for one worker; used by the mailbox's thread.

    Args:
        worker: the worker facade.
        requests: builds requests of the engine's jobs.
        books: guards Celery's books, which the main thread uses too.
        terminated: takes the ids that a command terminated.
    """

    def __init__(
        self, worker: Any, requests: Requests, books: AbstractContextManager[Any], terminated: set[str]
    ) -> None:
        self._worker = worker
        self._requests = requests
        self._terminated = terminated
        self._books = books
        self.engine: Engine | None = None
        self._state = AttributeDict(app=worker.app, hostname=worker.hostname, consumer=worker.consumer, tset=set)

    def run(self, name: str, arguments: Mapping[str, Any], controlled: ControlledWorker) -> Any:
        """Run a command; ``NotImplemented`` if neither Celery nor the application has it."""
        self._worker.app.clock.forward()
        command = Panel.data.get(name)
        if command is None:
            return NotImplemented
        try:
            if command.__module__ != _CELERYS_MODULE:
                return command(self._state, **arguments)
            return self._run_celerys(name, command, arguments)
        except SystemExit as error:
            # WorkerShutdown and WorkerTerminate of a command end the worker, as in upstream's loop.
            controlled.request_shutdown(exitcode=error.code if isinstance(error.code, int) else 0)
            raise

    def _run_celerys(self, name: str, command: Any, arguments: Mapping[str, Any]) -> Any:
        if name in ("scheduled", "dump_schedule"):
            return self._scheduled()
        if name == "stats":
            self._count_starts()
        if name not in _READERS:
            reply = command(self._state, **arguments)
        else:
            with self._books, self._filled_books(_READERS[name]):
                reply = command(self._state, **arguments)
        self._follow(name, arguments)
        return reply

    def _follow(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Tell the engine what the command changed in Celery's objects."""
        assert self.engine is not None
        if name in ("add_consumer", "cancel_consumer"):
            self._worker.consumer.perform_pending_operations()
        elif name in ("enable_events", "disable_events"):
            self._worker.task_events_changed()
        elif name == "revoke_by_stamped_headers":
            self.engine.watch_stamps()
        elif name == "time_limit":
            self._tell_time_limits(arguments.get("task_name"))

    def _tell_time_limits(self, task_name: Any) -> None:
        task = self._worker.app.tasks.get(task_name)
        index = self._worker.consumer.task_indexes.get(task_name)
        if task is None or index is None or self._worker.pool.is_solo:
            return
        limits = (task.soft_time_limit or self._worker.soft_time_limit, task.time_limit or self._worker.time_limit)
        soft_s, hard_s = (float(limit) if limit else None for limit in limits)
        assert self.engine is not None
        self.engine.set_time_limits(index, soft_s, hard_s)

    def _count_starts(self) -> None:
        """Put the engine's counts where Celery keeps its own."""
        assert self.engine is not None
        counts = {name.removeprefix("task:"): count for name, count in self.engine.counters().items() if ":" in name}
        state.total_count.clear()
        state.total_count.update(counts)

    def _scheduled(self) -> list[dict[str, Any]]:
        assert self.engine is not None
        scheduled = []
        for job in self.engine.jobs("scheduled"):
            request = self._request(job)
            if request is None:
                continue
            eta = request.eta or datetime.fromtimestamp(job.seconds, timezone.utc)
            scheduled.append({"eta": eta.isoformat(), "priority": 6, "request": request.info()})
        return scheduled

    @contextmanager
    def _filled_books(self, kinds: tuple[str, ...]) -> Iterator[None]:
        assert self.engine is not None
        held: list[Any] = []
        try:
            for kind in kinds:
                for job in self.engine.jobs(kind):  # type: ignore[arg-type]
                    request = self._request(job, is_active=kind == "active")
                    if request is not None:
                        held.append(request)
                        self._enter(request, kind)
            yield
        finally:
            for request in held:
                state.requests.pop(request.id, None)
                state.active_requests.discard(request)
                state.reserved_requests.discard(request)
                getattr(state, "scheduled_requests", state.reserved_requests).discard(request)

    def _enter(self, request: Any, kind: str) -> None:
        state.requests[request.id] = request
        if kind != "scheduled":
            state.reserved_requests.add(request)
        elif hasattr(state, "scheduled_requests"):
            state.scheduled_requests.add(request)
        if kind == "active":
            state.active_requests.add(request)

    def _request(self, job: Notice, *, is_active: bool = False) -> Any:
        """Build a request for looking at; ``None`` if its content cannot be read."""
        try:
            request = self._requests.build(job, self._requests.message(job))
        except Exception as error:
            logger.warning("cannot show %s[%s]: %r", job.task_name, job.task_id, error)
            return None
        if is_active:
            request.time_start = job.seconds
            request.acknowledged = not request.task.acks_late
        else:
            # The engine knows which child will get it; in Celery's words it has none yet.
            request.worker_pid = None
        request.terminate = self._terminator(request)
        return request

    def _terminator(self, request: Any) -> Any:
        def terminate(_pool: Any, signal: Any = None) -> None:
            # The end is announced when the engine shows the delivery, not by this copy of the request.
            assert self.engine is not None
            self._terminated.add(request.id)
            if not self.engine.terminate([request.id], signal=int(signal or 15)):
                self._terminated.discard(request.id)

        return terminate

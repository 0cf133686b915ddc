"""The remote control commands that change something, for a worker of our own app: Celery's words and rules."""

from __future__ import annotations

import logging
import signal as signals
from typing import TYPE_CHECKING, Any

from kombu import Exchange, Queue

from pyworker import states
from pyworker._native import NativeError
from pyworker.exceptions import ImproperlyConfigured, TaskRevokedError
from pyworker.followups import record_failure
from pyworker.worker.control_commands import parse_object
from pyworker.worker.native_config import per_second
from pyworker.worker.native_node import NativeNode, as_list, named_plainly, nok, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("celery.worker.control")

#: States of a task that nobody has started: a revoke is recorded at once.
_REVOCABLE = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


@named_plainly
class NativeChanges:
    """Obeys; used by the mailbox's thread."""

    def __init__(self, node: NativeNode) -> None:
        self._node = node
        self.commands: dict[str, Callable[..., Any]] = {
            "add_consumer": self.add_consumer, "autoscale": self.autoscale, "cancel_consumer": self.cancel_consumer,
            "disable_events": self.disable_events, "election": self.election, "enable_events": self.enable_events,
            "heartbeat": self.heartbeat, "pool_grow": self.pool_grow, "pool_restart": self.pool_restart,
            "pool_shrink": self.pool_shrink, "rate_limit": self.rate_limit, "revoke": self.revoke,
            "revoke_by_stamped_headers": self.revoke_by_stamped_headers, "terminate": self.terminate,
            "time_limit": self.time_limit,
        }  # fmt: skip

    # -- tasks

    def revoke(self, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Never start these tasks; with ``terminate`` also end them where they run."""
        node = self._node
        task_ids = list(dict.fromkeys(str(one) for one in as_list(task_id)))
        node.revoked.add(task_ids)
        running = {job.task_id for job in node.engine.jobs("active")}
        self._mark_revoked(each for each in task_ids if each not in running)
        if not terminate:
            logger.info("Tasks flagged as revoked: %s", ", ".join(task_ids))
            return ok(f"tasks {set(task_ids)} flagged as revoked")
        number = signal_number(signal)
        waiting = (*node.engine.jobs("reserved"), *node.engine.jobs("scheduled"))
        held = running | {job.task_id for job in waiting}
        hit = [each for each in task_ids if each in held]
        for each in hit:
            logger.info("Terminating %s (%s)", each, number)
        self._end(hit, number)
        return ok(f"terminate: {', '.join(hit)}") if hit else ok("terminate: tasks unknown")

    def terminate(self, signal: Any, task_id: Any, **_: Any) -> Any:
        """End these tasks."""
        return self.revoke(task_id, terminate=True, signal=signal)

    def revoke_by_stamped_headers(self, headers: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Never start tasks that carry one of these stamps."""
        node = self._node
        number = signal_number(signal)
        if isinstance(headers, list):
            headers = {name: value for name, _, value in (pair.partition("=") for pair in headers)}
        for header, stamps in headers.items():
            node.revoked_stamps.setdefault(header, []).extend(as_list(stamps))
        node.engine.watch_stamps()
        if not terminate:
            return ok(f"headers {headers} flagged as revoked, but not terminated")
        hit: dict[str, set[str]] = {}
        for job in node.engine.jobs("active"):
            stamps = parse_object(job.headers).get("stamps") or {}
            found = {
                header: set(as_list(stamps.get(header))) & set(as_list(wanted)) for header, wanted in headers.items()
            }
            if any(found.values()):
                self._end([job.task_id], number)
            for header, values in found.items():
                if values:
                    hit.setdefault(header, set()).update(values)
        return ok(f"headers {hit} revoked") if hit else ok(f"headers {headers} were not terminated")

    def _end(self, task_ids: list[str], number: int) -> None:
        node = self._node
        node.terminated.update(task_ids)
        ended = set(node.engine.terminate(task_ids, signal=number)) if task_ids else set()
        node.terminated.difference_update(set(task_ids) - ended)

    def _mark_revoked(self, task_ids: Iterable[str]) -> None:
        """Record the revoke of tasks that nobody has started; another worker's are left to it."""
        backend: Any = self._node.app.backend
        for task_id in task_ids:
            try:
                if backend.get_task_meta(task_id).get("status", states.PENDING) in _REVOCABLE:
                    error = TaskRevokedError("revoked")
                    record_failure(
                        self._node.app, task_id, error, None, None,
                        stores=True, state=states.REVOKED, calls_errbacks=False,
                    )  # fmt: skip
            except Exception as error:
                logger.warning("Failed to mark task %s as revoked in backend: %s", task_id, error)

    # -- limits

    def rate_limit(self, task_name: str, rate_limit: Any, **_: Any) -> Any:
        """Change a task's rate limit."""
        node = self._node
        try:
            per_s = per_second(rate_limit, task_name)
        except ImproperlyConfigured as error:
            return nok(f"Invalid rate limit string: {error.__cause__!r}")
        index = node.task_index(task_name)
        if index is None or task_name not in node.app.tasks:
            logger.error("Rate limit attempt for unknown task %s", task_name)
            return nok("unknown task")
        node.app.tasks[task_name].rate_limit = rate_limit
        if not node.app.conf.worker_disable_rate_limits:
            node.engine.set_rate_limit(index, per_s)
        if not rate_limit:
            logger.info("Rate limits disabled for tasks of type %s", task_name)
            return ok("rate limit disabled successfully")
        logger.info("New rate limit for tasks of type %s: %s.", task_name, rate_limit)
        return ok("new rate limit set successfully")

    def time_limit(self, task_name: Any = None, hard: Any = None, soft: Any = None, **_: Any) -> Any:
        """Change a task's time limits."""
        node = self._node
        task = node.app.tasks.get(task_name)
        index = node.task_index(task_name)
        if task is None or index is None:
            logger.error("Change time limit attempt for unknown task %s", task_name)
            return nok("unknown task")
        task.soft_time_limit, task.time_limit = soft, hard
        if not node.is_solo:
            limits = (soft or node.time_limits_s[0], hard or node.time_limits_s[1])
            node.engine.set_time_limits(index, *(float(limit) if limit else None for limit in limits))
        logger.info("New time limits for tasks of type %s: soft=%s hard=%s", task_name, soft, hard)
        return ok("time limits set successfully")

    # -- queues

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> Any:
        """Begin to consume from a queue."""
        node = self._node
        if queue not in node.queues:
            name = exchange or queue
            entity = Queue(queue, Exchange(name, type=exchange_type or "direct"), routing_key=routing_key or queue)
            try:
                node.added_queues.add(node.engine, entity)
            except (NativeError, ImproperlyConfigured) as error:
                return nok(str(error))
            node.queues[queue] = entity
            logger.info("Started consuming from %s", queue)
        return ok(f"add consumer {queue}")

    def cancel_consumer(self, queue: str, **_: Any) -> Any:
        """Stop to consume from a queue."""
        node = self._node
        logger.info("Canceling queue %s", queue)
        node.added_queues.remove(node.engine, queue)
        node.queues.pop(queue, None)
        return ok(f"no longer consuming from {queue}")

    # -- pool

    def pool_grow(self, n: int = 1, **_: Any) -> Any:
        """Add children."""
        if self._node.autoscaler is not None:
            return nok("pool_grow is not supported with autoscale. Adjust autoscale range instead.")
        self._require_processes()
        self._node.engine.grow(n)
        return ok("pool will grow")

    def pool_shrink(self, n: int = 1, **_: Any) -> Any:
        """Let idle children go."""
        if self._node.autoscaler is not None:
            return nok("pool_shrink is not supported with autoscale. Adjust autoscale range instead.")
        self._require_processes()
        if self._node.engine.shrink(n) < n:
            raise ValueError("Can't shrink pool. All processes busy!")
        return ok("pool will shrink")

    def pool_restart(self, modules: Any = None, reload: bool = False, **_: Any) -> Any:
        """Replace the children."""
        if not self._node.app.conf.worker_pool_restarts:
            raise ValueError("Pool restarts not enabled")
        if modules or reload:
            raise NotImplementedError(
                "the children keep the modules that the worker was started with; send it SIGHUP to run new code"
            )
        self._require_processes()
        self._node.engine.restart_children()
        return ok("reload started")

    def autoscale(self, max: int | None = None, min: int | None = None) -> Any:
        """Change the bounds of autoscale."""
        if self._node.autoscaler is None:
            raise ValueError("Autoscale not enabled")
        upper, lower = self._node.autoscaler.update(max, min)
        return ok(f"autoscale now max={upper} min={lower}")

    def _require_processes(self) -> None:
        if self._node.is_solo:
            raise NotImplementedError("solo runs tasks in the main process; there are no children")

    # -- events

    def enable_events(self) -> Any:
        """Send task events."""
        if self._node.events.set_task_events(True):
            logger.info("Events of group {task} enabled by remote.")
            return ok("task events enabled")
        return ok("task events already enabled")

    def disable_events(self) -> Any:
        """Send no task events."""
        if self._node.events.set_task_events(False):
            logger.info("Events of group {task} disabled by remote.")
            return ok("task events disabled")
        return ok("task events already disabled")

    def heartbeat(self) -> None:
        """Send a heartbeat now."""
        logger.debug("Heartbeat requested by remote.")
        self._node.events.heartbeat()

    def election(self, id: str, topic: str, action: Any = None, **_: Any) -> None:
        """Take part in no election: workers of our own app need none. Answered for the sake of the others."""


def signal_number(signal: Any) -> int:
    """Return a signal's number: a number, ``KILL`` or ``SIGKILL``.

    Raises:
        ValueError: there is no such signal.
    """
    if isinstance(signal, int):
        return signal
    name = str(signal or "TERM").upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    try:
        return int(signals.Signals[name])
    except KeyError:
        raise ValueError(f"there is no signal {signal!r}") from None

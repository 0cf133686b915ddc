"""The application's tasks as the engine sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.time import rate

from pyworker.compat.celery.held_requests import has_own_request
from pyworker.compat.celery.lanes import lane_of
from pyworker.worker.config import Lane, TaskConfig
from pyworker.worker.protocol import TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable


def task_specs(app: Any, *, soft_time_limit_s: float | None, time_limit_s: float | None) -> tuple[TaskSpec, ...]:
    """Describe every registered task, by name.

    Args:
        app: a finalized ``celery.Celery``.
        soft_time_limit_s, time_limit_s: the worker's own limits, for tasks that have none.
    """
    return tuple(_spec(app, app.tasks[name], soft_time_limit_s, time_limit_s) for name in sorted(app.tasks))


def _spec(app: Any, task: Any, soft_time_limit_s: float | None, time_limit_s: float | None) -> TaskSpec:
    lane, reasons = lane_of(app, task)
    return TaskSpec(
        name=task.name,
        lane=lane,
        reasons=tuple(reasons),
        acks_late=bool(task.acks_late),
        acks_on_failure=bool(_acks_on_failure(task)),
        soft_time_limit_s=_seconds(task.soft_time_limit or soft_time_limit_s),
        time_limit_s=_seconds(task.time_limit or time_limit_s),
        rate_limit_per_s=None if app.conf.worker_disable_rate_limits else _per_second(task.rate_limit),
    )


def _acks_on_failure(task: Any) -> Any:
    """Return the rule under its name of Celery 5.7, or the older one."""
    value = getattr(task, "acks_on_failure", None)
    return task.acks_on_failure_or_timeout if value is None else value


def _per_second(limit: Any) -> float | None:
    """Return Celery's ``10/m`` and the like as starts per second; 0 and None mean no limit."""
    return float(rate(limit)) or None if limit else None


def _seconds(limit: Any) -> float | None:
    return float(limit) if limit else None


def watched_tasks(app: Any, specs: Iterable[TaskSpec]) -> frozenset[str]:
    """Return the names of the tasks whose own request class is told of start and end."""
    return frozenset(spec.name for spec in specs if has_own_request(app.tasks[spec.name]))


def task_configs(specs: Iterable[TaskSpec], watched: frozenset[str] = frozenset()) -> tuple[TaskConfig, ...]:
    """Return the engine's part of the descriptions, in the same order.

    Args:
        specs: the descriptions.
        watched: names of the tasks whose request is told of start and end.
    """
    return tuple(
        TaskConfig(
            name=spec.name,
            acks_late=spec.acks_late,
            acks_on_failure=spec.acks_on_failure,
            soft_time_limit_s=spec.soft_time_limit_s,
            time_limit_s=spec.time_limit_s,
            rate_limit_per_s=spec.rate_limit_per_s,
            parent_lane=spec.lane is Lane.PARENT,
            watched=spec.name in watched,
        )
        for spec in specs
    )

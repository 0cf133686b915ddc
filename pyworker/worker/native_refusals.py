"""Settings that a worker of our own app cannot honour: refused at start, never silently without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.app.defaults import DEFAULTS
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.conf import Settings
    from pyworker.task import Task

#: Why a setting other than the default cannot be had.
_REASONS = {
    "worker_agent": "there are no agents; what they did is done by a process manager",
    "worker_consumer": "the consumer is native, not a class",
    "worker_direct": "there are no queues of single workers; give workers queues by -Q",
    "worker_timer": "timers are native, not a class",
    "worker_pool_start_method": "children are forked by a server that has no threads; use fork",
    "task_protocol": "only protocol 2 is published; protocol 1 is understood",
    "task_create_missing_queue_type": "queue types are not declared yet; declare quorum queues by hand",
    "task_default_queue_type": "queue types are not declared yet; declare quorum queues by hand",
}


def refuse_settings(conf: Settings) -> None:
    """Refuse what cannot be honoured.

    Raises:
        ImproperlyConfigured: names the setting, its value and the reason.
    """
    for name, reason in _REASONS.items():
        value = conf[name]
        if value is not None and value != DEFAULTS[name]:
            raise ImproperlyConfigured(f"{name}: {value!r} is not supported: {reason}")


def refuse_tasks(tasks: Iterable[Task[..., object]]) -> None:
    """Refuse tasks that want the worker to be another one.

    Raises:
        ImproperlyConfigured: names the task.
    """
    for task in tasks:
        for attribute in ("Request", "Strategy"):
            if getattr(task, attribute) is not None:
                raise ImproperlyConfigured(
                    f"the task {task.name} has a {attribute} of its own, which only a worker for Celery's own "
                    "application class runs; use the hooks on_failure, on_retry and after_return"
                )

"""Tasks of no app in particular: every app gets its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.task import Task

#: Makes and registers the task in an app.
Factory = Callable[["Celery"], "Task[..., Any]"]

_factories: dict[str, Factory] = {}
#: Counts every change, so that an app knows whether it has seen them all.
_count = 0


def share_task(name: str, factory: Factory) -> None:
    """Have every app make a task of this name."""
    global _count
    _factories[name] = factory
    _count += 1


def shared_count() -> int:
    """Return a number that grows with every task that is shared."""
    return _count


def shared_tasks() -> dict[str, Factory]:
    """Return the factories by task name."""
    return dict(_factories)

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


def share_task(name: str, factory: Factory) -> None:
    """Have every app make a task of this name."""
    _factories[name] = factory


def shared_tasks() -> dict[str, Factory]:
    """Return the factories by task name."""
    return dict(_factories)

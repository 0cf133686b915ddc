"""What a worker of our own app cannot honour: refused or warned of at start, never silently without effect."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyworker.conf_effects import refused, without_effect
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.conf import Settings
    from pyworker.task import Task

logger = logging.getLogger("celery.worker")


def refuse_settings(conf: Settings) -> None:
    """Refuse what cannot be honoured.

    Raises:
        ImproperlyConfigured: names the setting, its value and the reason.
    """
    for name, reason in refused(conf):
        raise ImproperlyConfigured(f"{name}: {conf[name]!r} is not supported: {reason}")


def warn_of_settings(conf: Settings) -> None:
    """Log a warning for each setting that was given and changes nothing, with the reason."""
    for name, reason in without_effect(conf):
        logger.warning("The setting %s has no effect: %s.", name, reason)


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

"""Base class of tasks in Django programs; every app has it there unless it names another."""

from __future__ import annotations

from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import transaction

from pyworker.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class DjangoTask(Task[P, R]):
    """A task that can wait for the end of a transaction."""

    abstract = True

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send the task with these arguments when the present transaction commits, now if there is none."""
        transaction.on_commit(partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, using: str | None = None, **options: Any) -> None:
        """Send the task when the present transaction commits; arguments as ``apply_async``.

        Args:
            args: of ``apply_async``.
            using: the database whose transaction is meant.
            options: of ``apply_async``.
        """
        transaction.on_commit(partial(self.apply_async, *args, **options), using=using)

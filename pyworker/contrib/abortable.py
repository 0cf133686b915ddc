"""Tasks that can be asked to stop, and look whether they were.

The request is a state in the result store, so it works wherever results do. The task has to look::

    @app.task(bind=True, base=AbortableTask)
    def long(self):
        while not self.is_aborted():
            step()
"""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from pyworker.backends.base import DisabledBackend
from pyworker.exceptions import ImproperlyConfigured
from pyworker.result import AsyncResult
from pyworker.task import Task

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]

#: The state of a task that was asked to stop.
ABORTED = "ABORTED"

P = ParamSpec("P")
R = TypeVar("R")


class AbortableAsyncResult(AsyncResult[R]):
    """The result of a task that can be asked to stop."""

    def is_aborted(self) -> bool:
        """Whether the task was asked to stop."""
        return self.state == ABORTED

    def abort(self) -> None:
        """Ask the task to stop; when it does is up to the task.

        Raises:
            ImproperlyConfigured: there is no result store to ask through.
        """
        if isinstance(self.backend, DisabledBackend):
            raise ImproperlyConfigured("result_backend: abort() needs a result store")
        self.backend.store_result(self.id, None, ABORTED)


class AbortableTask(Task[P, R]):
    """Base of tasks that can be asked to stop."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task; returns an :class:`AbortableAsyncResult`."""
        sent = super().apply_async(*args, **options)
        return self.AsyncResult(sent.id) if type(sent) is AsyncResult else sent

    def AsyncResult(self, task_id: str, **options: Any) -> AbortableAsyncResult[R]:
        """Return the result of a run of this task."""
        return AbortableAsyncResult(task_id, task_name=self.name, app=self.app, **options)

    def is_aborted(self, task_id: str | None = None) -> bool:
        """Whether the running task was asked to stop; asks the result store every time."""
        wanted = task_id or self.request.id
        return wanted is not None and self.AsyncResult(wanted).is_aborted()

"""What all results have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyworker.current import app_or_default

if TYPE_CHECKING:
    from pyworker.app import Celery


class ResultBase:
    """Base of the results of one task and of many.

    Attributes:
        id: the task's or group's id; a set of results has none.
        parent: the result of what was before, in a chain.
    """

    __slots__ = ()

    app: Any
    id: Any = None
    parent: Any = None

    def task_ids(self) -> str | list[str]:
        """The id of the task, or of all tasks."""
        raise NotImplementedError

    def parent_tuple(self) -> Any:
        """Return :meth:`as_tuple` of what was before, None if nothing was."""
        return None if self.parent is None else self.parent.as_tuple()

    def as_list(self) -> list[str]:
        """Return the ids of this and of what was before."""
        return [str(self.id), *(self.parent.as_list() if self.parent is not None else [])]

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Tell all workers not to run the task, or any of the tasks.

        Args:
            connection: a kombu connection to use.
            terminate: also end the process that runs it.
            signal: how to end it, ``TERM`` if not given.
            wait: wait for the workers' answers and return them.
            timeout: seconds to wait.
        """
        return told(self.app.control.revoke, self.task_ids(), connection, terminate, signal, wait, timeout)


def told(
    command: Callable[..., Any],
    target: Any,
    connection: Any,
    terminate: bool,
    signal: str | None,
    wait: bool,
    timeout: float | None,
) -> Any:
    """Send a revoking command of remote control, with the options that are given."""
    options = {"connection": connection, "signal": signal, "timeout": timeout}
    chosen = {name: value for name, value in options.items() if value is not None}
    return command(target, terminate=terminate, reply=wait, **chosen)


def as_exception(error: Any) -> BaseException:
    """Return what can be raised for a stored failure."""
    return error if isinstance(error, BaseException) else Exception(error)


def result_from_tuple(stored: Any, app: Celery | None = None) -> Any:
    """Rebuild a result from what ``as_tuple()`` returned: ``((id, parent), None or [results])``."""
    if isinstance(stored, ResultBase):
        return stored
    app = app_or_default(app)
    head, members = stored
    identifier, parent = head if isinstance(head, (list, tuple)) else (head, None)
    above = result_from_tuple(parent, app) if parent else None
    if members is None:
        return app.AsyncResult(identifier, parent=above)
    return app.GroupResult(identifier, [result_from_tuple(each, app) for each in members], parent=above)

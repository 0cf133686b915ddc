"""The tasks of an app, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.exceptions import NotRegistered

if TYPE_CHECKING:
    from pyworker.task import Task


class TaskRegistry(dict[str, "Task[Any, Any]"]):
    """Maps names to task objects.

    Raises:
        NotRegistered: on look-up of an unknown name.
    """

    def __missing__(self, name: str) -> Task[Any, Any]:
        raise NotRegistered(name)

    def register(self, task: Task[Any, Any]) -> None:
        """Add a task under its name."""
        self[task.name] = task

    def unregister(self, name: str | Task[Any, Any]) -> None:
        """Take a task out.

        Raises:
            NotRegistered: there is none of that name.
        """
        name = getattr(name, "name", name)
        if self.pop(str(name), None) is None:
            raise NotRegistered(name)

    def regular(self) -> dict[str, Task[Any, Any]]:
        """Return every task; there is no other kind any more."""
        return dict(self)

    def periodic(self) -> dict[str, Task[Any, Any]]:
        """Return no task: periodic ones are entries of ``beat_schedule``."""
        return {}

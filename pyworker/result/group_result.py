"""The results of a group's tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyworker.current import app_or_default
from pyworker.result.base import result_from_tuple
from pyworker.result.result_set import ResultSet

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.backends.base import Backend


class GroupResult(ResultSet):
    """The results of a group's tasks.

    Args:
        id: the group's id.
        results: one result per task.
        parent: the result of what was before, in a chain.
        app: the results' app.
    """

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = (),
        parent: Any = None,
        app: Celery | None = None,
        **others: Any,
    ) -> None:
        super().__init__(results, app, **others)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The results."""
        return self.results

    def save(self, backend: Backend | None = None) -> None:
        """Store the group's structure, for :meth:`restore`."""
        (backend or self.backend).save_group(str(self.id), self)

    def delete(self, backend: Backend | None = None) -> None:
        """Delete the stored structure."""
        (backend or self.backend).delete_group(str(self.id))

    @classmethod
    def restore(cls, id: str, backend: Backend | None = None, app: Celery | None = None) -> Any:
        """Return a stored group, None if there is none of that id."""
        app = app_or_default(app)
        stored = (backend or app.backend).restore_group(id)
        return None if stored is None else result_from_tuple(stored, app)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return ids as plain data: ``((id, parent), [results])``."""
        return (self.id, self.parent_tuple()), [result.as_tuple() for result in self.results]

    def forget(self) -> None:
        """Delete the results and what was before."""
        super().forget()
        if self.parent is not None:
            self.parent.forget()

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results and other.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(str(result.id) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.results, self.parent)

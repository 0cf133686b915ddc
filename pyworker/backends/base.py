"""What the API asks of a result store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from pyworker import states

if TYPE_CHECKING:
    from pyworker.app import Celery

#: A task's stored meta: status, result, traceback, children, date_done, task_id and more.
Meta = dict[str, Any]


class Backend(Protocol):
    """A result store."""

    def as_uri(self, include_password: bool = False) -> str:
        """Return its address for people."""

    def get_task_meta(self, task_id: str) -> Meta:
        """Read a task's meta; one that is unknown is ``PENDING``."""

    def get_many(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """Read the metas that are there."""

    def wait_for(
        self,
        task_ids: Sequence[str],
        *,
        timeout_s: float | None,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield the metas of finished tasks as they come.

        Args:
            on_message: told of every state that is published meanwhile.
            on_interval: called about once a second.

        Raises:
            pyworker.exceptions.TimeoutError: some are not there in time.
            pyworker.exceptions.OperationalError: the store is gone.
        """

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None
    ) -> Any:
        """Store a state."""

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Store a success and count it if it is part of a chord."""

    def on_chord_part_return(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a chord's header."""

    def forget(self, task_id: str) -> None:
        """Delete a result."""

    def save_group(self, group_id: str, result: Any) -> None:
        """Store a group's structure."""

    def restore_group(self, group_id: str) -> Any:
        """Return a stored group's structure as nested tuples, None if there is none."""

    def delete_group(self, group_id: str) -> None:
        """Delete a group's structure."""

    def set_chord_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord's header has."""

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Say that a running chord's header has one part more."""

    def close(self) -> None:
        """Close connections."""


@runtime_checkable
class AsyncBackend(Protocol):
    """A result store that coroutines can wait for without a thread."""

    async def await_for(self, task_ids: Sequence[str], found: Callable[[str, Meta], None]) -> None:
        """Wait until all of these tasks are done.

        Args:
            found: called with the id and the meta of each.

        Raises:
            pyworker.exceptions.OperationalError: the store is gone.
        """


class DisabledBackend:
    """No results: the default."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def as_uri(self, include_password: bool = False) -> str:
        """Return ``disabled://``."""
        return "disabled://"

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None
    ) -> Any:
        """Store nothing."""

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Store nothing."""

    def on_chord_part_return(self, request: Any, state: str, result: Any) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Nothing is open."""

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "No result backend is configured.\nPlease see the documentation for more information."
        )

    get_task_meta = get_many = wait_for = forget = _refuse
    save_group = restore_group = delete_group = set_chord_size = add_to_chord = _refuse


def pending(task_id: str) -> Meta:
    """Return the meta of a task that nothing is known of."""
    return {"status": states.PENDING, "result": None, "task_id": task_id}

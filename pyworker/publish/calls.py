"""Calls to be published, one by one or many of one task together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pyworker.task import Task

#: What the message of a plain call may carry besides its arguments.
PLAIN_OPTIONS = frozenset({"group_id", "group_index", "root_id", "parent_id"})


class Call(NamedTuple):
    """One call to be published."""

    name: str
    task: Task[Any, Any] | None
    task_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]
    #: A ``kombu.Producer`` or ``kombu.Connection`` to publish through, instead of natively.
    producer: Any = None
    connection: Any = None
    #: Whether it was sent by name alone (``send_task``).
    is_by_name: bool = False

    @property
    def ids(self) -> Sequence[str]:
        """Its id, as of a series."""
        return (self.task_id,)


class Series(NamedTuple):
    """Calls of one task that differ in their ids, positional arguments and places in a group alone."""

    name: str
    task: Task[Any, Any] | None
    #: Options of all of them.
    options: dict[str, Any]
    #: The first one's place in its group; the others follow. None outside of groups.
    first_index: int | None
    ids: list[str]
    arguments: list[tuple[Any, ...]]

    def call(self, position: int) -> Call:
        """Return one of them alone."""
        options = self.options
        if self.first_index is not None:
            options = {**options, "group_index": self.first_index + position}
        return Call(self.name, self.task, self.ids[position], self.arguments[position], {}, options)


class CallBatch:
    """Calls in the order in which they are to be sent; what can be a series becomes one."""

    __slots__ = ("_next_index", "_series", "steps")

    def __init__(self) -> None:
        self.steps: list[Call | Series] = []
        self._series: Series | None = None
        self._next_index: int | None = None

    def add(
        self,
        name: str,
        task: Task[Any, Any] | None,
        task_id: str,
        args: Any,
        kwargs: Mapping[str, Any],
        options: dict[str, Any],
        group_index: int | None = None,
    ) -> None:
        """Add a call.

        Args:
            name, task, task_id, args, kwargs: the call.
            options: its options but for its place in a group; calls that are given the same dictionary one after the
                other may become a series.
            group_index: its place.
        """
        if kwargs or type(args) is not tuple:
            self._series = None
            placed = options if group_index is None else {**options, "group_index": group_index}
            self.steps.append(Call(name, task, task_id, args, kwargs, placed))
            return
        series = self._series
        if series is None or series.options is not options or series.task is not task or series.name != name or (
            group_index != self._next_index
        ):  # fmt: skip
            series = self._series = Series(name, task, options, group_index, [], [])
            self.steps.append(series)
        series.ids.append(task_id)
        series.arguments.append(args)
        self._next_index = None if group_index is None else group_index + 1

    def take(self) -> list[Call | Series]:
        """Return what was added, and begin anew."""
        steps, self.steps, self._series = self.steps, [], None
        return steps

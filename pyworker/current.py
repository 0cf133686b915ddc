"""What is going on in this thread: the current app, the running task, and whether waiting for results is wise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.task import Task

Item = TypeVar("Item")


class Stack(threading.local, Generic[Item]):
    """A stack of which every thread has its own."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def push(self, item: Item) -> None:
        """Put an item on top."""
        self.items.append(item)

    def pop(self) -> Item | None:
        """Take the top item away; None if there is none."""
        return self.items.pop() if self.items else None

    @property
    def top(self) -> Item | None:
        """The item on top, None if there is none."""
        return self.items[-1] if self.items else None


class _Here(threading.local):
    app: Celery | None = None


#: The tasks being run by this thread, the innermost on top.
task_stack: Stack[Task[Any, Any]] = Stack()
_here = _Here()
_default_app: Celery | None = None
#: Set in the worker's children: waiting for another task there may block the pool for ever.
_joins_block = False


def set_current_app(app: Celery) -> None:
    """Make an app this thread's current one, and the default one of threads that have none."""
    global _default_app
    _here.app = app
    _default_app = app


def find_current_app() -> Celery | None:
    """Return this thread's app, or the one that was made current last."""
    return _here.app or _default_app


def get_current_task() -> Task[Any, Any] | None:
    """Return the task that this thread runs."""
    return task_stack.top


def get_current_worker_task() -> Task[Any, Any] | None:
    """Return the task that a worker runs in this thread, not one called directly from it."""
    running = (task for task in reversed(task_stack.items) if not task.request.called_directly)
    return next(running, None)


def set_joins_block(blocks: bool) -> None:
    """Say whether waiting for results inside a task is refused."""
    global _joins_block
    _joins_block = blocks


def refuse_to_block() -> None:
    """Raise if waiting here could block for ever.

    Raises:
        RuntimeError: this is a task in a worker.
    """
    if _joins_block and task_stack.items:
        raise RuntimeError(
            "Never call result.get() within a task! "
            "See https://docs.celeryq.dev/en/latest/userguide/tasks.html#avoid-launching-synchronous-subtasks"
        )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow waiting for results although this is a task."""
    before = _joins_block
    set_joins_block(False)
    try:
        yield
    finally:
        set_joins_block(before)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Refuse waiting for results inside a task, as a worker does."""
    before = _joins_block
    set_joins_block(True)
    try:
        yield
    finally:
        set_joins_block(before)

"""What is going on in this thread: the current app, the running task, and whether waiting for results is wise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pyworker.exceptions import ImproperlyConfigured

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


def app_or_default(app: Celery | None = None) -> Celery:
    """Return the given app, else the current one.

    Raises:
        ImproperlyConfigured: there is none; none is made up.
    """
    found = app if app is not None else find_current_app()
    if found is None:
        raise ImproperlyConfigured("there is no app yet: make one with pyworker.Celery(...), or pass app=")
    return found


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


def current_apps() -> tuple[Celery | None, Celery | None]:
    """Return this thread's app and the default one, for :func:`restore_current_apps`."""
    return _here.app, _default_app


def restore_current_apps(apps: tuple[Celery | None, Celery | None]) -> None:
    """Put back what :func:`current_apps` returned."""
    global _default_app
    _here.app, _default_app = apps


def joins_block() -> bool:
    """Whether waiting for results inside a task is refused."""
    return _joins_block


# ``current_app`` and ``current_task`` forward attributes and nothing else (ADR 0006): they are objects of classes of
# their own, true only while there is something behind them, and they say so when there is not.


class CurrentApp:
    """Forwards to this thread's current app.

    Raises:
        ImproperlyConfigured: on any use while there is no app.
    """

    __slots__ = ()

    def _get_current_object(self) -> Celery:
        app = find_current_app()
        if app is None:
            raise ImproperlyConfigured("current_app: there is no app yet: make one with pyworker.Celery(...)")
        return app

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __bool__(self) -> bool:
        return find_current_app() is not None

    def __eq__(self, other: object) -> bool:
        return other is self or (find_current_app() is other and other is not None)

    def __hash__(self) -> int:
        return hash(CurrentApp)

    def __repr__(self) -> str:
        app = find_current_app()
        return "<current_app: none>" if app is None else repr(app)


class CurrentTask:
    """Forwards to the task that this thread runs.

    Raises:
        AttributeError: on any use while no task runs; as with ``None``, which Celery has there.
    """

    __slots__ = ()

    def _get_current_object(self) -> Task[..., Any] | None:
        return get_current_task()

    def __getattr__(self, name: str) -> Any:
        task = get_current_task()
        if task is None:
            raise AttributeError(f"current_task.{name}: no task is being run here")
        return getattr(task, name)

    def __setattr__(self, name: str, value: Any) -> None:
        task = get_current_task()
        if task is None:
            raise AttributeError(f"current_task.{name}: no task is being run here")
        setattr(task, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("__call__")(*args, **kwargs)

    def __bool__(self) -> bool:
        return get_current_task() is not None

    def __eq__(self, other: object) -> bool:
        return other is self or get_current_task() is other

    def __hash__(self) -> int:
        return hash(CurrentTask)

    def __repr__(self) -> str:
        task = get_current_task()
        return "<current_task: none>" if task is None else repr(task)


#: The app that is current where and when this is used.
current_app = cast("Celery", CurrentApp())
#: The task that this thread runs when this is used.
current_task = cast("Task[..., Any]", CurrentTask())

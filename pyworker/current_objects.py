"""``current_app`` and ``current_task``: names to import once that mean whatever is current when they are used.

They forward attributes and nothing else (ADR 0006): they are objects of classes of their own, true only while there
is something behind them, and they say so when there is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pyworker.current import find_current_app, get_current_task
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.app.base import Celery
    from pyworker.task import Task


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

"""Shared tasks, which every application gets, and which application is meant when none is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar, overload

from pyworker.app.base import Celery
from pyworker.builtins import share_builtins
from pyworker.current import Stack, find_current_app
from pyworker.request import Context
from pyworker.shared import share_task
from pyworker.task import Task

P = ParamSpec("P")
R = TypeVar("R")


@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def shared_task(*, bind: Literal[False] = False, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(function: Any = None, /, **options: Any) -> Any:
    """Make a task that every app has; what is returned acts for the current app."""
    if function is None:
        return lambda wrapped: _shared(wrapped, options)
    return _shared(function, options)


def _shared(function: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    app = find_current_app() or _nobody
    name = options.get("name") or app.gen_task_name(function.__name__, function.__module__)
    base = options.get("base")
    kinds: tuple[type[Task[..., Any]], ...] = (SharedTask,) if base is None else (SharedTask, base)
    made = _nobody.task_from_function(function, **{**options, "name": name, "base": _based_on(kinds)})
    type(made)._app = None
    if isinstance(made, SharedTask):
        type(made)._definition = staticmethod(lambda each: each.task_from_function(function, **options))
    share_task(name, lambda each: each.task_from_function(function, **options))
    return made


def _based_on(kinds: tuple[type[Task[..., Any]], ...]) -> type[Task[..., Any]]:
    return kinds[0] if len(kinds) == 1 else type("SharedTask", kinds, {"__module__": __name__})


class SharedTask(Task[..., Any]):
    """What ``shared_task`` returns: the task of whatever app is current when it is used.

    It is a task itself, of no app; calls and the running request are those of the current app's own task, so that
    the app's base class counts.
    """

    #: Makes the task in an app, or finds it there.
    _definition: ClassVar[Any] = None
    _found: tuple[Celery, Task[..., Any]] | None = None

    _own_stack: Stack[Context]

    def _actual(self) -> Task[..., Any] | None:
        """The current app's task; None without an app."""
        app, found = find_current_app(), self._found
        if app is None or self._definition is None:
            return None
        if found is None or found[0] is not app:
            found = app, self._definition(app)
            object.__setattr__(self, "_found", found)
        return found[1]

    @property
    def request_stack(self) -> Stack[Context]:
        """Requests being run, the innermost on top."""
        actual = self._actual()
        return self._own_stack if actual is None else actual.request_stack

    @request_stack.setter
    def request_stack(self, value: Stack[Context]) -> None:
        self._own_stack = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now."""
        actual = self._actual()
        return super().__call__(*args, **kwargs) if actual is None else actual(*args, **kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send the current app's task."""
        actual = self._actual()
        if actual is None:
            return super().apply_async(args, kwargs, *more, **options)
        return actual.apply_async(args, kwargs, *more, **options)

    def apply(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Run the current app's task with everything around it."""
        actual = self._actual()
        task: Any = super() if actual is None else actual
        return task.apply(args, kwargs, *more, **options)

    def __getattr__(self, name: str) -> Any:
        # What the current app's own base class adds to tasks.
        actual = None if name.startswith("_") else self._actual()
        if actual is None:
            raise AttributeError(f"the shared task {self.name!r} has no {name!r}")
        return getattr(actual, name)


class _Nobody(Celery):
    """Makes the tasks that belong to no app."""

    def _prepare_framework(self) -> None:
        """Nothing: it is no program's app."""


_nobody = _Nobody(set_as_current=False)


share_builtins()

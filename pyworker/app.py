"""The application: settings, tasks, and the way to send them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from pyworker.arguments import header_of
from pyworker.autoretry import retrying
from pyworker.backends import make_backend
from pyworker.builtins import share_builtins
from pyworker.canvas.signature import Signature, signature
from pyworker.conf import Settings, settings_of, settings_of_environment
from pyworker.current import find_current_app, get_current_task, get_current_worker_task, set_current_app
from pyworker.exceptions import ImproperlyConfigured
from pyworker.identifiers import uuid
from pyworker.publish.publisher import Call, Publisher
from pyworker.registry import TaskRegistry
from pyworker.result import AsyncResult, GroupResult, ResultSet
from pyworker.shared import share_task, shared_tasks
from pyworker.task import Task

if TYPE_CHECKING:
    from pyworker.backends.base import Backend

P = ParamSpec("P")
R = TypeVar("R")


class Celery:
    """An application.

    Args:
        main: name of the main module, used in names of tasks defined in ``__main__``.
        broker, backend: URLs of the broker and the result store.
        include: modules that the worker imports.
        task_cls: base class of tasks.
        set_as_current: make this the current app.
        changes: settings.
        config_source: where settings are loaded from when first needed.
        namespace: prefix of the settings in the source.
        strict_typing: whether tasks check their arguments when they are sent.
        settings: further settings, by name.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] | None = None,
        task_cls: type[Task[..., Any]] | None = None,
        set_as_current: bool = True,
        changes: Mapping[str, Any] | None = None,
        config_source: object = None,
        namespace: str | None = None,
        strict_typing: bool = True,
        **settings: Any,
    ) -> None:
        fixed = {"broker_url": broker, "result_backend": backend, "include": include, **(changes or {}), **settings}
        self.main = main
        self.strict_typing = strict_typing
        self.conf = Settings({name: value for name, value in fixed.items() if value is not None})
        self.registry = TaskRegistry()
        self._lock = threading.RLock()
        self._backend: Backend | None = None
        self._backend_version = -1
        self._publisher = Publisher(self)
        bound: Any = type("Task", (task_cls or Task,), {"_app": self, "__module__": "pyworker.app"})
        #: Base class of this app's tasks; may be replaced.
        self.Task: type[Task[..., Any]] = bound
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        if set_as_current:
            self.set_current()
        self.on_init()

    # -- life

    def on_init(self) -> None:
        """Called at the end of the constructor; to be overridden."""

    def set_current(self) -> None:
        """Make this the current app."""
        set_current_app(self)

    def close(self) -> None:
        """Close connections; the app can be used again."""
        self._publisher.close()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def finalize(self, auto: bool = False) -> None:
        """Take the shared tasks in; done whenever ``tasks`` is looked at."""
        for name, factory in shared_tasks().items():
            if name not in self.registry:
                with self._lock:
                    if name not in self.registry:
                        factory(self)

    # -- settings

    def config_from_object(
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Load settings from a module, object or mapping, or the name of one, when one is first read.

        Args:
            obj: the source.
            silent: ignore that it does not exist.
            force: load now.
            namespace: only names that start with it.
        """

        def load() -> Mapping[str, Any]:
            try:
                return settings_of(obj, namespace)
            except ImproperlyConfigured:
                if silent:
                    return {}
                raise

        self.conf.load_later(load)
        if force:
            self.conf.get("broker_url")

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Load settings from the module that an environment variable names."""
        loaded = settings_of_environment(variable_name, silent, namespace)
        self.conf.load_later(lambda: loaded)

    def add_defaults(self, source: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add settings that count where nothing else says otherwise."""
        self.conf.add_defaults(source)

    @property
    def timezone(self) -> tzinfo:
        """The configured time zone."""
        name = self.conf.timezone
        if isinstance(name, tzinfo):
            return name
        if not name:
            return timezone.utc if self.conf.enable_utc else datetime.now().astimezone().tzinfo or timezone.utc
        if str(name).upper() == "UTC":
            return timezone.utc
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(str(name))
        except (KeyError, ValueError) as error:
            raise ImproperlyConfigured(f"timezone: {name!r} is not known") from error

    def now(self) -> datetime:
        """Return the present time in the configured time zone."""
        return datetime.now(timezone.utc).astimezone(self.timezone)

    # -- tasks

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name."""
        self.finalize()
        return self.registry

    @property
    def current_task(self) -> Task[..., Any] | None:
        """The task that this thread runs."""
        return get_current_task()

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
    @overload
    def task(self, *, bind: Literal[False] = False, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, *functions: Any, bind: bool = False, **options: Any) -> Any:
        """Make a task of a function; works with and without options.

        Args:
            functions: the task's body, if the decorator has no options.
            options: ``name``, ``bind``, ``base``, ``typing``, and any attribute of :class:`Task`.
        """
        if len(functions) > 1:
            raise TypeError(f"@task() takes exactly 1 argument ({len(functions)} given)")
        for function in functions:
            if not callable(function):
                raise TypeError("argument 1 to @task() must be a callable")
            return self.task_from_function(function, bind=bind, **options)
        return lambda wrapped: self.task_from_function(wrapped, bind=bind, **options)

    def task_from_function(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        bind: bool = False,
        shared: bool = True,
        lazy: bool = True,
        filter: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Task[..., Any]:
        """Return the task of a function, made if it does not exist yet."""
        name = name or self.gen_task_name(function.__name__, function.__module__)
        known = self.registry.get(name)
        if known is not None and getattr(known, "__wrapped__", None) is function:
            return known
        attributes: dict[str, Any] = {
            "_app": self,
            "name": name,
            "abstract": False,
            "run": function if bind else staticmethod(function),
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__wrapped__": staticmethod(function),
            "__header__": _static(header_of(function, is_bound=bind)),
            **{key: value for key, value in options.items() if value is not None or key == "max_retries"},
        }
        if "__annotations__" in vars(function):
            attributes["__annotations__"] = function.__annotations__
        return self._added(type(function.__name__, (base or self.Task,), attributes)())

    def register_task(self, task: Task[..., Any] | type[Task[..., Any]], **options: Any) -> Task[..., Any]:
        """Add a task written as a class."""
        made = task() if isinstance(task, type) else task
        kind = type(made)
        if not made.name:
            kind.name = self.gen_task_name(kind.__name__, kind.__module__)
        kind._app = self
        for key, value in options.items():
            setattr(kind, key, value)
        if kind.__header__ is None:
            kind.__header__ = _static(header_of(kind.run, is_bound=True))
        return self._added(made)

    def _added(self, task: Task[..., Any]) -> Task[..., Any]:
        self._annotate(task)
        if task.autoretry_for:
            object.__setattr__(task, "run", retrying(task, task.run))
        with self._lock:
            self.registry.register(task)
        self._publisher.forget_task(task.name)
        return task

    def _annotate(self, task: Task[..., Any]) -> None:
        """Apply ``task_annotations``."""
        annotations = self.conf.task_annotations
        for source in annotations if isinstance(annotations, (list, tuple)) else [annotations] if annotations else ():
            if isinstance(source, Mapping):
                found = {**source.get("*", {}), **source.get(task.name, {})}
            else:
                found = source.annotate(task) or {}
            for key, value in found.items():
                setattr(type(task), key.lstrip("@"), value(getattr(type(task), key[1:])) if key[0] == "@" else value)

    def gen_task_name(self, name: str, module: str) -> str:
        """Return a task's name from its function's name and module; to be overridden."""
        module = module or "__main__"
        found = sys.modules.get(module)
        module = found.__name__ if found is not None else module
        if module == "__main__" and self.main:
            module = self.main
        return f"{module}.{name}"

    # -- sending

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        producer: Any = None,
        connection: Any = None,
        result_cls: type[AsyncResult[Any]] | None = None,
        add_to_parent: bool = True,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by name, known here or not; options as :meth:`Task.apply_async`."""
        task = self.registry.get(name)
        parent = get_current_worker_task()
        if parent is not None:
            request = parent.request
            options.setdefault("root_id", request.root_id or request.id)
            options.setdefault("parent_id", request.id)
        task_id = task_id or uuid()
        given = {key: value for key, value in options.items() if value is not None}
        given["ignore_result"] = options.get("ignore_result")
        self.publish_call(Call(name, task, task_id, args or (), kwargs or {}, given))
        result = (result_cls or AsyncResult)(task_id, app=self)
        result.ignored = options.get("ignore_result")
        if parent is not None and add_to_parent:
            parent.add_trail(result)
        return result

    def send_many(self, signatures: Iterable[Signature]) -> list[AsyncResult[Any]]:
        """Send independent signatures in one batch, at a fraction of the time of sending each.

        Raises:
            OperationalError: the broker cannot be reached or refuses; some may have been sent.
        """
        calls: list[Call] = []
        results: list[Any] = []
        for sig in signatures:
            task = sig._type if sig._type is not None else self.tasks.get(sig.task)
            if sig.subtask_type or (task is not None and not task.publishes_plainly):
                results.append(sig.apply_async())
                continue
            options = dict(sig.options)
            task_id = options.pop("task_id", None) or uuid()
            if task is not None:
                task.check_arguments(sig.args, sig.kwargs)
                options = {**task.lineage(), **options}
            calls.append(Call(sig.task, task, task_id, sig.args, sig.kwargs, options))
            results.append(AsyncResult(task_id, None, sig.task, self))
        if calls:
            self.publish_many(calls)
        return results

    def publish_call(self, call: Call) -> None:
        """Publish one prepared call."""
        self._publisher.publish(call)

    def publish_many(self, calls: list[Call]) -> None:
        """Publish prepared calls together."""
        self._publisher.publish_many(calls)

    def forget_template(self, name: str) -> None:
        """A task's attributes changed: its next message is built anew."""
        self._publisher.forget_task(name)

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """Return a signature bound to this app."""
        kwargs.setdefault("app", self)
        return signature(*args, **kwargs)

    # -- results

    @property
    def backend(self) -> Backend:
        """The result store."""
        backend = self._backend
        if backend is None or self._backend_version != self.conf.version:
            with self._lock:
                backend = self._current_backend()
        return backend

    def _current_backend(self) -> Backend:
        """The result store of the present settings; an open one is kept while its own settings stay."""
        version = self.conf.version
        wanted = (self.conf.result_backend, self.conf.result_serializer)
        if self._backend is None or wanted != self._backend_settings:
            self._backend = make_backend(self)
            self._backend_settings = wanted
        self._backend_version = version
        return self._backend

    _backend_settings: tuple[Any, ...] = ()

    def AsyncResult(self, task_id: str, **options: Any) -> AsyncResult[Any]:
        """Return the result of a task."""
        options.setdefault("app", self)
        return AsyncResult(task_id, **options)

    #: Result of a group, its class.
    GroupResult = GroupResult
    ResultSet = ResultSet

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}:{id(self):#x}>"


def _static(function: Callable[..., Any] | None) -> Any:
    """As an attribute of a class that does not bind."""
    return None if function is None else staticmethod(function)


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
    unbound = Celery(set_as_current=False)
    app = find_current_app()
    unbound.main = app.main if app is not None else None
    task = unbound.task_from_function(function, **options)
    type(task)._app = None
    named = {**options, "name": task.name}
    share_task(task.name, lambda each: each.task_from_function(function, **named))
    return task


share_builtins()

"""The application: settings, tasks, and the way to send them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from pyworker.app.connecting import Connecting
from pyworker.arguments import header_of
from pyworker.backends import make_backend
from pyworker.canvas.signature import Signature, signature
from pyworker.current import find_current_app, get_current_task, get_current_worker_task, set_current_app
from pyworker.exceptions import AlwaysEagerIgnored, ImproperlyConfigured
from pyworker.identifiers import reply_address, uuid
from pyworker.publish.calls import Call, CallBatch, Series
from pyworker.publish.publisher import Publisher
from pyworker.registry import TaskRegistry
from pyworker.result import AsyncResult, GroupResult, ResultSet
from pyworker.shared import share_task, shared_count, shared_tasks
from pyworker.task import Task

if TYPE_CHECKING:
    from pyworker.app.amqp import AMQP
    from pyworker.app.loader import Loader
    from pyworker.app.log import Logging
    from pyworker.backends.base import Backend
    from pyworker.control_client import ControlClient

P = ParamSpec("P")
R = TypeVar("R")


class Celery(Connecting):
    """An application.

    Args:
        main: name of the main module, used in names of tasks defined in ``__main__``.
        broker, backend: URLs of the broker and the result store.
        include: modules that the worker imports.
        task_cls: base class of tasks, or its name (``"module:Class"``).
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
        task_cls: type[Task[..., Any]] | str | None = None,
        set_as_current: bool = True,
        changes: Mapping[str, Any] | None = None,
        config_source: object = None,
        namespace: str | None = None,
        strict_typing: bool = True,
        **settings: Any,
    ) -> None:
        fixed = {"broker_url": broker, "result_backend": backend, "include": include, **(changes or {}), **settings}
        super().__init__({name: value for name, value in fixed.items() if value is not None})
        self.main = main
        self.strict_typing = strict_typing
        self.registry = TaskRegistry()
        #: Options that an application adds to the command line, by command.
        self.user_options: dict[str, set[Any]] = {}
        self._backend: Backend | None = None
        self._backend_version = -1
        self._publisher = Publisher(self)
        self._unprepared: list[Task[..., Any]] = []
        self._shared_count = -1
        self._is_finalized = False
        self._task_cls = task_cls
        self._task_base: type[Task[..., Any]] | None = None
        self._prepare_framework()
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        if set_as_current:
            self.set_current()
        self.on_init()

    # -- life

    def on_init(self) -> None:
        """Called at the end of the constructor; to be overridden."""

    def _prepare_framework(self) -> None:
        """Prepare for Django if its settings are named."""
        if os.environ.get("DJANGO_SETTINGS_MODULE"):
            # By name: only programs of Django load it.
            self._django = import_module("pyworker.contrib.django.fixup").fixup(self)

    def set_current(self) -> None:
        """Make this the current app."""
        set_current_app(self)

    def close(self) -> None:
        """Close connections; the app can be used again."""
        self._publisher.close()
        self._close_pools()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def set_default(self) -> None:
        """Make this the app of threads that have none of their own."""
        set_current_app(self)

    @property
    def finalized(self) -> bool:
        """Whether :meth:`finalize` ran."""
        return self._is_finalized

    def finalize(self, auto: bool = False) -> None:
        """Take the shared tasks in and apply ``task_annotations``; done whenever ``tasks`` is looked at.

        The first time, ``on_after_finalize`` is sent.
        """
        if not self._unprepared and self._shared_count == shared_count() and self._is_finalized:
            return
        with self._lock:
            self._shared_count = shared_count()
            for name, factory in shared_tasks().items():
                if name not in self.registry:
                    factory(self)
            self._prepare_tasks()
            is_first, self._is_finalized = not self._is_finalized, True
        if is_first:
            self.on_after_finalize.send(sender=self)

    def _prepare_tasks(self) -> None:
        """Do what needs the settings to the tasks that were defined before they were to be loaded."""
        with self._lock:
            waiting, self._unprepared = self._unprepared, []
            for task in waiting:
                self._annotate(task)

    # -- programs

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Run the ``pyworker`` command with this app and return its exit code.

        Args:
            argv: its arguments without the program's name; those of this process if not given.
        """
        # By name: a program that only sends tasks needs no command line.
        cli = import_module("pyworker.cli.main").cli
        try:
            code = cli.main(
                args=sys.argv[1:] if argv is None else list(argv), prog_name="pyworker", standalone_mode=False,
                auto_envvar_prefix="CELERY", default_map={"app": self},
            )  # fmt: skip
        except SystemExit as done:
            code = done.code
        return code if isinstance(code, int) else 0

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run ``pyworker worker`` with this app and return its exit code.

        Args:
            argv: arguments with the command among them: ``["worker", "-l", "INFO"]``.

        Raises:
            ValueError: the command is missing.
        """
        arguments = sys.argv[1:] if argv is None else list(argv)
        if "worker" not in arguments:
            raise ValueError("The worker sub-command must be specified in argv; app.start() runs other commands.")
        return self.start(arguments)

    @property
    def amqp(self) -> AMQP:
        """Queues, routes and kombu's consumers by this app's settings."""
        # By name, as all of these: most programs only send tasks.
        found: AMQP = import_module("pyworker.app.amqp").AMQP(self)
        return found

    @property
    def loader(self) -> Loader:
        """Imports the modules that define this app's tasks."""
        found: Loader = import_module("pyworker.app.loader").Loader(self)
        return found

    @property
    def control(self) -> ControlClient:
        """Remote control of this app's workers."""
        found: ControlClient = import_module("pyworker.control_client").ControlClient(self)
        return found

    @property
    def log(self) -> Logging:
        """Logging as the worker sets it up."""
        # By name: programs that only send tasks set up their own.
        found: Logging = import_module("pyworker.app.log").Logging(self)
        return found

    def bugreport(self) -> str:
        """Return what a bug report should have: versions, platform, settings without secrets."""
        # By name: nobody else needs it.
        report: str = import_module("pyworker.app.utils").bugreport(self)
        return report

    def setup_security(
        self,
        allowed_serializers: Iterable[str] | None = None,
        key: str | None = None,
        key_password: bytes | str | None = None,
        cert: str | None = None,
        store: str | None = None,
        digest: str | None = None,
        serializer: str = "json",
    ) -> None:
        """Sign what is sent and accept nothing unsigned; see :func:`pyworker.security.setup_security`."""
        # By name: it brings the package cryptography.
        setup = import_module("pyworker.security").setup_security
        setup(allowed_serializers, key, key_password, cert, store, digest, serializer, app=self)

    @property
    def oid(self) -> str:
        """Address that replies to this process are sent to."""
        return reply_address()

    thread_oid = oid

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

    @property
    def current_worker_task(self) -> Task[..., Any] | None:
        """The task that a worker runs in this thread, not one called from it as a function."""
        return get_current_worker_task()

    @property
    def task_cls(self) -> type[Task[..., Any]] | str:
        """Base class of tasks as it was given, or its name."""
        return self._task_cls or Task

    @task_cls.setter
    def task_cls(self, value: type[Task[..., Any]] | str) -> None:
        self._task_cls = value
        self._task_base = None

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
            return self._decorated(function, {"bind": bind, **options})
        return lambda wrapped: self._decorated(wrapped, {"bind": bind, **options})

    def _decorated(self, function: Callable[..., Any], options: dict[str, Any]) -> Any:
        """Make the task, and let other apps have one of their own unless ``shared`` is false."""
        is_shared, change = options.pop("shared", True), options.pop("filter", None)
        options.pop("lazy", None)
        task = self.task_from_function(function, **options)
        if is_shared:
            named = {**options, "name": task.name}
            share_task(task.name, lambda each: each.task_from_function(function, **named))
        return change(task) if change is not None else task

    def task_from_function(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        base: type[Task[..., Any]] | None = None,
        bind: bool = False,
        pydantic: bool = False,
        pydantic_strict: bool = False,
        pydantic_context: Mapping[str, Any] | None = None,
        pydantic_dump_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Task[..., Any]:
        """Return the task of a function, made if it does not exist yet.

        Args:
            function: the task's body.
            name: its name, made from the function's and its module's if not given.
            base: the class that its own is derived from.
            bind: whether the function takes the task as its first argument.
            pydantic, pydantic_strict, pydantic_context, pydantic_dump_kwargs: see :mod:`pyworker.validation`.
            options: attributes of the task.
        """
        name = name or self.gen_task_name(function.__name__, function.__module__)
        known = self.registry.get(name)
        if known is not None:
            if getattr(type(known), "__wrapped__", None) is not function:
                _duplicates().warn_of_duplicate(known, function)
            return known
        run = function
        if pydantic:
            run = import_module("pyworker.validation").validating(
                self,
                function,
                name,
                strict=pydantic_strict,
                context=pydantic_context,
                dump_options=pydantic_dump_kwargs,
            )
        attributes: dict[str, Any] = {
            "_app": self,
            "name": name,
            "abstract": False,
            "run": run if bind else staticmethod(run),
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__wrapped__": staticmethod(function),
            "__header__": _static(header_of(function, is_bound=bind)),
            "_dump_arguments": _dumping(run, bind) if pydantic else None,
            **{key: value for key, value in options.items() if value is not None or key == "max_retries"},
        }
        annotations = getattr(function, "__annotations__", None)
        if annotations is not None:
            attributes["__annotations__"] = annotations
        return self._added(type(function.__name__, (base or self.Task,), attributes)())

    def register_task(self, task: Task[..., Any] | type[Task[..., Any]], **options: Any) -> Task[..., Any]:
        """Add a task written as a class.

        Args:
            task: the class, or an instance of it.
            options: attributes of the task.
        """
        made = task() if isinstance(task, type) else task
        kind = type(made)
        if not made.name:
            kind.name = self.gen_task_name(kind.__name__, kind.__module__)
        kind._app = self
        kind.abstract = False
        for key, value in options.items():
            setattr(kind, key, value)
        if kind.__header__ is None:
            kind.__header__ = _static(header_of(kind.run, is_bound=True))
        known = self.registry.get(made.name)
        if known is not None and known is not made:
            _duplicates().warn_of_duplicate(known, kind, replaces=True)
        return self._added(made)

    def _added(self, task: Task[..., Any]) -> Task[..., Any]:
        if task.typing is None:
            type(task).typing = self.strict_typing
        if task.autoretry_for:
            object.__setattr__(task, "run", import_module("pyworker.autoretry").retrying(task, task.run))
        with self._lock:
            self.registry.register(task)
            self._unprepared.append(task)
        self._publisher.forget_task(task.name)
        type(task).on_bound(self)
        return task

    def _annotate(self, task: Task[..., Any]) -> None:
        """Apply ``task_annotations`` and the class's own ``annotations``."""
        annotations = self.conf.task_annotations
        for source in annotations if isinstance(annotations, (list, tuple)) else [annotations] if annotations else ():
            if isinstance(source, str):
                source = _class_named(source)
            if isinstance(source, Mapping):
                found = {**source.get("*", {}), **source.get(task.name, {})}
            else:
                found = {**(source.annotate_any() or {} if hasattr(source, "annotate_any") else {}),
                         **(source.annotate(task) or {})}  # fmt: skip
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
        """Send a task by name, known here or not; options as :meth:`Task.apply_async`.

        Args:
            name: the task's name.
            args, kwargs: its arguments.
            task_id: its id, if a new one will not do.
            producer, connection: a ``kombu.Producer`` or ``kombu.Connection`` to publish through.
            result_cls: class of the result that is returned.
            add_to_parent: whether the running task gets the result as a child.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """
        if self.conf.task_always_eager:
            # Not at the top: importing it takes as long as half of this module.
            import warnings

            warnings.warn(
                AlwaysEagerIgnored("task_always_eager has no effect on send_task"), stacklevel=2
            )  # fmt: skip
        task = self.registry.get(name)
        parent = get_current_worker_task()
        if parent is not None:
            request = parent.request
            options.setdefault("root_id", request.root_id or request.id)
            options.setdefault("parent_id", request.id)
        task_id = task_id or uuid()
        given = {key: value for key, value in options.items() if value is not None}
        given["ignore_result"] = options.get("ignore_result")
        self.publish_call(
            Call(name, task, task_id, args or (), kwargs or {}, given, producer, connection, is_by_name=True)
        )
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
        given = list(signatures)
        ids = iter(self.new_ids(len(given)))
        batch = CallBatch()
        steps: list[Any] = []
        lineages: dict[str, dict[str, Any]] = {}
        for sig in given:
            task = sig._type if sig._type is not None else self.tasks.get(sig.task)
            if sig.subtask_type or (task is not None and not task.publishes_plainly):
                steps += [*batch.take(), sig.apply_async()]
                continue
            if sig.task not in lineages:
                lineages[sig.task] = {} if task is None else task.lineage()
            options = lineages[sig.task]
            if sig.options:
                options = {**options, **sig.options}
            task_id: str = (options.pop("task_id", None) if sig.options else None) or next(ids)
            if task is not None:
                task.check_arguments(sig.args, sig.kwargs)
            batch.add(sig.task, task, task_id, sig.args, sig.kwargs, options)
        steps += batch.take()
        calls = [step for step in steps if isinstance(step, (Call, Series))]
        results: list[Any] = []
        for step in steps:
            results += AsyncResult.of_calls([step], self) if isinstance(step, (Call, Series)) else [step]
        if calls:
            self.publish_many(calls)
        return results

    def new_ids(self, count: int) -> list[str]:
        """Return new ids for many tasks at once."""
        # By name: the native core is loaded by who sends.
        made: list[str] = import_module("pyworker.publish.templates").new_ids(count)
        return made

    def publish_call(self, call: Call) -> None:
        """Publish one prepared call."""
        if self._unprepared:
            self._prepare_tasks()
        self._publisher.publish(call)

    def publish_many(self, calls: Sequence[Call | Series]) -> None:
        """Publish prepared calls together."""
        if self._unprepared:
            self._prepare_tasks()
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
        conf = self.conf
        wanted = (
            conf.result_backend, conf.result_serializer, conf.result_compression, conf.result_accept_content,
            conf.accept_content,
        )  # fmt: skip
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

    def create_task_cls(self) -> type[Task[..., Any]]:
        """Return a new base class that is bound to this app."""
        base: Any = self._task_cls or Task
        if isinstance(base, str):
            base = _class_named(base)
        bound: Any = type("Task", (base,), {"_app": self, "abstract": True, "__module__": "pyworker.app"})
        return bound  # type: ignore[no-any-return]

    @property
    def Task(self) -> type[Task[..., Any]]:
        """Base class of this app's tasks; may be replaced."""
        if self._task_base is None:
            self._task_base = self.create_task_cls()
        return self._task_base

    @Task.setter
    def Task(self, value: Any) -> None:
        self._task_base = value

    @property
    def has_own_task_class(self) -> bool:
        """Whether another base class of tasks than the default one was named."""
        return self._task_cls is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return _app_again, (type(self), self.main, self.conf.changes(), dict(self.conf._fixed))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}:{id(self):#x}>"


def _static(function: Callable[..., Any] | None) -> Any:
    """As an attribute of a class that does not bind."""
    return None if function is None else staticmethod(function)


def _dumping(run: Any, is_bound: bool) -> Any:
    """What turns models among a call's arguments into plain data, as an attribute of a class that does not bind."""
    return staticmethod(partial(run.dump_arguments, is_bound=is_bound))


def _duplicates() -> Any:
    """By name, as everything that few programs need: importing pyworker has to be quick."""
    return import_module("pyworker.app.duplicates")


def _app_again(kind: type[Celery], main: str | None, changes: dict[str, Any], fixed: dict[str, Any]) -> Celery:
    """Return the app of that name that this process has as its current one, else a new one (unpickling)."""
    current = find_current_app()
    if current is not None and current.main == main:
        return current
    return kind(main, set_as_current=False, changes={**fixed, **changes})


def _class_named(name: str) -> Any:
    """Return the object that ``module:attribute`` or ``module.attribute`` names.

    Raises:
        ImproperlyConfigured: there is none.
    """
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(f"cannot load {name!r}: {error}") from error

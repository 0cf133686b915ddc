"""Tasks: what an app's decorator makes of a function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar, overload

from pyworker.canvas.chain import chain
from pyworker.canvas.group import group
from pyworker.canvas.maps import chunks, xmap, xstarmap
from pyworker.canvas.signature import Signature, as_list, maybe_signature, signature
from pyworker.current import (
    Stack,
    denied_join_result,
    find_current_app,
    get_current_worker_task,
    task_stack,
)
from pyworker.exceptions import (
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    OperationalError,
    Reject,
    Retry,
)
from pyworker.exceptions import Retry as RetryError
from pyworker.identifiers import uuid
from pyworker.publish.calls import Call
from pyworker.request import Context
from pyworker.result import AsyncResult

if TYPE_CHECKING:
    from datetime import datetime

    from pyworker.app import Celery
    from pyworker.eager_result import EagerResult

P = ParamSpec("P")
R = TypeVar("R")


class Configured:
    """A task attribute that has its setting's value unless the task's class or the decorator sets it.

    Args:
        setting: the setting's name.
        fallback: the attribute that counts when the setting is None.
    """

    def __init__(self, setting: str, fallback: str = "") -> None:
        self._setting = setting
        self._fallback = fallback

    def __get__(self, task: Task[Any, Any] | None, owner: type[Task[Any, Any]]) -> Any:
        app = task.app if task is not None else owner._app
        value = None if app is None else app.conf[self._setting]
        if value is None and self._fallback:
            return getattr(owner if task is None else task, self._fallback)
        return value


#: Attributes of a task that are options of its messages.
_EXECUTION_OPTIONS = (
    "queue", "routing_key", "exchange", "priority", "expires", "serializer", "delivery_mode", "compression",
    "time_limit", "soft_time_limit", "immediate", "mandatory",
)  # fmt: skip


class Task(Generic[P, R]):
    """Base of all tasks. One instance per task and app; state in it is kept between runs."""

    Retry: ClassVar[type[Retry]] = Retry
    MaxRetriesExceededError: ClassVar[type[MaxRetriesExceededError]] = MaxRetriesExceededError
    OperationalError: ClassVar[type[OperationalError]] = OperationalError

    _app: ClassVar[Celery | None] = None
    #: The name that messages carry.
    name: str = ""
    #: Classes with this set are bases, no tasks.
    abstract: bool = True
    #: Whether arguments are checked when the task is called; the app's ``strict_typing`` if not given.
    typing: bool | None = None
    #: Retries before giving up; None for ever.
    max_retries: int | None = 3
    #: Seconds before a retry.
    default_retry_delay: float = 180
    #: Whether results of tasks sent by this one are kept as its children.
    trail: bool = True
    send_events: bool = True
    #: Exceptions that are expected: logged without traceback.
    throws: tuple[type[BaseException], ...] = ()
    expires: Any = None
    queue: Any = None
    exchange: Any = None
    routing_key: Any = None
    delivery_mode: Any = None
    compression: str | None = None
    immediate: Any = None
    mandatory: Any = None
    resultrepr_maxsize: int = 1024
    #: Retrying by exception, see :mod:`pyworker.autoretry`.
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True

    rate_limit: Any = Configured("task_default_rate_limit")
    serializer: Any = Configured("task_serializer")
    priority: Any = Configured("task_default_priority")
    time_limit: Any = Configured("task_time_limit")
    soft_time_limit: Any = Configured("task_soft_time_limit")
    track_started: Any = Configured("task_track_started")
    acks_late: Any = Configured("task_acks_late")
    acks_on_failure_or_timeout: Any = Configured("task_acks_on_failure_or_timeout")
    acks_on_failure: Any = Configured("task_acks_on_failure", "acks_on_failure_or_timeout")
    acks_on_timeout: Any = Configured("task_acks_on_timeout", "acks_on_failure_or_timeout")
    retry_on_worker_lost: Any = Configured("task_retry_on_worker_lost")
    reject_on_worker_lost: Any = Configured("task_reject_on_worker_lost")
    ignore_result: Any = Configured("task_ignore_result")
    store_eager_result: Any = Configured("task_store_eager_result")
    store_errors_even_if_ignored: Any = Configured("task_store_errors_even_if_ignored")

    #: Celery's classes of the worker's own request and strategy; a worker of ours refuses tasks that have one.
    Request: ClassVar[Any] = None
    Strategy: ClassVar[Any] = None

    #: Checks arguments by being called with them; None if they are not checked.
    __header__: Callable[..., Any] | None = None

    def __init__(self) -> None:
        self.request_stack: Stack[Context] = Stack()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        app = type(self)._app
        if app is not None and (name in _EXECUTION_OPTIONS or name == "ignore_result"):
            app.forget_template(self.name)

    # -- being a task of an app

    @property
    def app(self) -> Celery:
        """The app of this task.

        Raises:
            ImproperlyConfigured: there is none yet.
        """
        app = type(self)._app or find_current_app()
        if app is None:
            raise ImproperlyConfigured(f"the task {self.name or type(self).__name__!r} has no app yet")
        return app

    @property
    def backend(self) -> Any:
        """Where results are stored."""
        return self.app.backend if self._backend is None else self._backend

    @backend.setter
    def backend(self, value: Any) -> None:
        object.__setattr__(self, "_backend", value)

    _backend: Any = None

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Called when the task became one of an app; to be overridden."""

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        """Make this a task of an app; returns the app."""
        cls._app = app
        cls.on_bound(app)
        return app

    @property
    def request(self) -> Context:
        """The request being run; an empty one outside."""
        return self.request_stack.top or Context()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The task's body."""
        raise NotImplementedError("Tasks must define the run method.")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now."""
        task_stack.push(self)
        self.request_stack.push(Context(args=args, kwargs=kwargs))
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        finally:
            self.request_stack.pop()
            task_stack.pop()

    # -- sending

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments.

        Raises:
            TypeError: they do not fit.
            OperationalError: the broker cannot be reached or refuses.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the task.

        Args:
            args, kwargs: its arguments.
            task_id: its id, if a new one will not do.
            producer: a ``kombu.Producer`` to publish through, instead of natively.
            link, link_error: what to send when it succeeds, or fails.
            shadow: another name for logs.
            options: ``countdown``, ``eta``, ``expires``, ``queue``, ``priority``, ``headers``, ``serializer``,
                ``compression``, ``time_limit``, ``soft_time_limit``, ``retry``, ``retry_policy``,
                ``ignore_result``, ``add_to_parent`` and properties of the message.

        Raises:
            TypeError: the arguments do not fit.
            ValueError: an option is out of range.
            OperationalError: the broker cannot be reached or refuses.
        """
        given = () if args is None else args if type(args) is tuple or type(args) is list else _sequence(args)
        named = kwargs or {}
        self.check_arguments(given, named)
        dump = self._dump_arguments
        if dump is not None:
            given, named = dump(given, named)
        app = self.app
        if app.conf.task_always_eager:
            eager: AsyncResult[R] = self._apply_as_if_sent(given, named, task_id, link, link_error, options)
            return eager
        shadow = shadow or self.shadow_name(given, named, options)
        for option, value in (("link", link), ("link_error", link_error), ("shadow", shadow)):
            if value:
                options[option] = value
        add_to_parent = options.pop("add_to_parent", True)
        connection = options.pop("connection", None)
        parent = get_current_worker_task()
        if parent is not None:
            _inherit(parent, options, app)
        task_id = task_id or uuid()
        ignored = options.get("ignore_result")
        app.publish_call(Call(self.name, self, task_id, given, named, options, producer, connection))
        result: AsyncResult[R] = AsyncResult(task_id, None, self.name, app)
        result.ignored = self.ignore_result if ignored is None else ignored
        if parent is not None and add_to_parent:
            parent.add_trail(result)
        return result

    async def aapply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send the task from a coroutine, without holding up its event loop.

        Arguments, options and exceptions as :meth:`apply_async`. The loop's own executor publishes, with the
        caller's context variables; a task that is being run is the parent as in ``apply_async``.
        """
        # Only programs with an event loop have asyncio loaded.
        import asyncio

        parent = get_current_worker_task()
        if parent is not None:
            # The running task is known to this thread alone.
            _inherit(parent, options, self.app)
        result: AsyncResult[R] = await asyncio.to_thread(self.apply_async, args, kwargs, **options)
        if parent is not None and options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task from a coroutine with these arguments; see :meth:`aapply_async`."""
        return await self.aapply_async(args, kwargs)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult:
        """Run the task here and now, with all hooks and signals, its retries and what follows it.

        Args:
            args, kwargs: its arguments.
            link, link_error: what to send afterwards.
            task_id: its id, if a new one will not do.
            retries: how often it was tried before.
            throw: raise what it raises; as ``task_eager_propagates`` says if not given.
            options: ``headers``, ``ignore_result``, ``logfile``, ``loglevel``, stamps.
        """
        # By name: only who runs tasks without a worker loads what runs them.
        eager = import_module("pyworker.eager")
        app = self.app
        app.finalize()
        task = app.registry.get(self.name, self)
        request = eager.eager_request(
            task, task_id or uuid(), retries or 0, {**options, "link": link, "link_error": link_error}
        )
        result: EagerResult = eager.run_eagerly(
            task, tuple(args or ()), {} if kwargs is None else kwargs, request=request,
            throw=app.conf.task_eager_propagates if throw is None else throw,
        )  # fmt: skip
        return result

    def _apply_as_if_sent(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str | None, link: Any, link_error: Any,
        options: dict[str, Any],
    ) -> Any:  # fmt: skip
        """``task_always_eager``: arguments go through the serializer, waiting for results is refused inside."""
        serializer = options.get("serializer") or self.serializer or "json"
        given, named = import_module("pyworker.eager").sent_and_received(args, kwargs, serializer)
        with denied_join_result():
            return self.apply(given, named, link=link, link_error=link_error, task_id=task_id, **options)

    #: Turns models among the arguments into plain data (``pydantic=True``).
    _dump_arguments: ClassVar[Callable[..., Any] | None] = None

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise the ``TypeError`` that calling the task with these arguments would."""
        check = self.argument_check
        if check is not None:
            check(*args, **kwargs)

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """Return another name for logs; to be overridden."""
        return None

    @property
    def publishes_plainly(self) -> bool:
        """Whether sending this task needs nothing of its class's own."""
        kind = type(self)
        return (
            kind.apply_async is Task.apply_async
            and kind.shadow_name is Task.shadow_name
            and kind._dump_arguments is None
        )

    @property
    def argument_check(self) -> Callable[..., Any] | None:
        """What raises the ``TypeError`` that calling the task with wrong arguments would; None if they are free."""
        return self.__header__ if self.typing else None

    def execution_options(self) -> dict[str, Any]:
        """Options of this task's messages that its attributes set."""
        found = ((name, getattr(self, name)) for name in _EXECUTION_OPTIONS)
        options = {name: value for name, value in found if value is not None}
        if options["serializer"] == "json":
            del options["serializer"]
        options["ignore_result"] = self.ignore_result
        return options

    def lineage(self) -> dict[str, Any]:
        """Options that make the running task the parent of what is sent now."""
        parent = get_current_worker_task()
        options: dict[str, Any] = {}
        if parent is not None:
            _inherit(parent, options, self.app)
        return options

    def AsyncResult(self, task_id: str, **options: Any) -> AsyncResult[R]:
        """Return the result of a run of this task."""
        return AsyncResult(task_id, task_name=self.name, app=self.app, **options)

    # -- signatures

    def signature(self, args: Iterable[Any] | None = None, *more: Any, **options: Any) -> Signature:
        """Return a signature: (args, kwargs, options)."""
        made: Signature = signature(self, args, *more, **options)
        return made

    subtask = signature

    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature: ...
    @overload
    def s(self, *args: Any, **kwargs: Any) -> Signature: ...

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments, all or the last ones."""
        return Signature.of_task(self, args, kwargs, False)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Return a signature that takes no further arguments."""
        return Signature.of_task(self, args, kwargs, True)

    def map(self, it: Iterable[Any]) -> Signature:
        """Return a signature of ``[task(x) for x in it]``."""
        return xmap(self.s(), it, app=type(self)._app)

    def starmap(self, it: Iterable[Any]) -> Signature:
        """Return a signature of ``[task(*x) for x in it]``."""
        return xstarmap(self.s(), it, app=type(self)._app)

    def chunks(self, it: Iterable[Any], n: int) -> Signature:
        """Return a signature of the starmap in parts of ``n``."""
        return chunks(self.s(), it, n, app=type(self)._app)

    def signature_from_request(
        self, request: Context | None = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra: Any
    ) -> Signature:
        """Return the signature that would send a request again."""
        request = self.request if request is None else request
        options = {
            **request.as_execution_options(),
            "ignore_result": self.ignore_result if request.ignore_result is None else request.ignore_result,
            **extra,
        }
        delivery = request.delivery_info or {}
        if delivery.get("priority") is not None:
            options["priority"] = delivery["priority"]
        if queue:
            options["queue"] = queue
        elif delivery.get("exchange") == "" and delivery.get("routing_key"):
            options["queue"] = delivery["routing_key"]
        else:
            options.update({key: value for key, value in delivery.items() if key in ("exchange", "routing_key")})
        return Signature(
            self, request.args if args is None else args, request.kwargs if kwargs is None else kwargs, options
        )

    # -- during a run

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> RetryError:
        """Send the task again, under the same id.

        Args:
            args, kwargs: other arguments than this time.
            exc: what to raise when there may be no further retry.
            throw: raise :class:`Retry` instead of returning it.
            eta, countdown: when; after ``default_retry_delay`` if not given.
            max_retries: another limit than the task's.
            options: options of ``apply_async``.

        Raises:
            Retry: always, unless ``throw`` is false.
            MaxRetriesExceededError: the limit is reached and no ``exc`` is given.
        """
        request = self.request
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly:
            _raise_current(exc or Retry("Task can be retried", None))
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        retries = request.retries + 1
        again = self.signature_from_request(
            request, args, kwargs, countdown=countdown, eta=eta, retries=retries, **options
        )
        if limit is not None and retries > limit:
            if exc is not None:
                _raise_current(exc)
            raise self.MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{again.args} kwargs:{again.kwargs}",
                task_args=again.args,
                task_kwargs=again.kwargs,
            )
        told = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager, sig=again)  # type: ignore[arg-type]
        if not request.is_eager:
            try:
                again.apply_async()
            except Exception as error:
                raise Reject(error, requeue=False) from error
        if throw:
            raise told
        return told

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store a state of the user's own for the running task.

        Raises:
            ValueError: no task is running, and no id is given.
        """
        task_id = task_id or self.request.id
        if not task_id:
            raise ValueError(f"task_id must not be empty. Got {task_id} instead.")
        self.backend.store_result(task_id, meta, state, request=self.request)

    def add_trail(self, result: Any) -> Any:
        """Remember a result as a child of this run."""
        if self.trail:
            self.request.children.append(result)
        return result

    def replace(self, sig: Any) -> Any:
        """End this run; the signature runs in its place, under its id, and what was to follow the task follows it.

        Raises:
            Ignore: always, unless the task runs eagerly: then the signature's result is returned.
            ImproperlyConfigured: the signature cannot take the place.
        """
        if "chord" in sig.options:
            raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
        if isinstance(sig, chain) and not sig.tasks:
            raise ImproperlyConfigured("Cannot replace with an empty chain")
        request = self.request
        sig = self._with_one_end(sig)
        for callback in as_list(request.callbacks):
            sig.link(callback)
        for errback in as_list(request.errbacks):
            sig.link_error(errback)
        if isinstance(sig, chain) and "link" in sig.options:
            # They belong to the chain's present end, which may get a continuation below.
            last = maybe_signature(sig.tasks[-1])
            for callback in as_list(sig.options.pop("link")):
                last.link(callback)
        sig.freeze(request.id)
        nesting = request.replaced_task_nesting + 1
        sig.set(
            chord=request.chord, group_id=request.group, group_index=request.group_index, root_id=request.root_id,
            replaced_task_nesting=nesting,
        )  # fmt: skip
        if isinstance(sig, chain):
            for step in sig.tasks:
                step.set(replaced_task_nesting=nesting)
        for following in reversed(request.chain or ()):
            step = maybe_signature(following, app=self.app)
            step.set(replaced_task_nesting=nesting)
            sig = sig | step
        return self.on_replace(sig)

    def _with_one_end(self, sig: Any) -> Any:
        """Give a signature that ends in a group a task behind it, which callbacks can be linked to."""
        accumulate = self.app.tasks["celery.accumulate"]
        if isinstance(sig, group):
            return sig | accumulate.s(index=0)
        if isinstance(sig, chain) and isinstance(sig.tasks[-1], group):
            sig.tasks = [*sig.tasks[:-1], sig.tasks[-1] | accumulate.s(index=0)]
        return sig

    def on_replace(self, sig: Any) -> Any:
        """Called with the signature that takes this run's place; to be overridden.

        Raises:
            Ignore: the signature was sent.
        """
        if self.request.is_eager:
            return sig.apply().get()
        sig.delay()
        raise Ignore("Replaced by new task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add a signature to the header of the chord that the running task is in.

        Args:
            sig: the signature.
            lazy: do not send it; ``sig.delay()`` is left to the caller.

        Raises:
            ValueError: the running task is in no chord.
        """
        request = self.request
        if not request.chord:
            raise ValueError("Current task is not member of any chord")
        sig.set(group_id=request.group, group_index=request.group_index, chord=request.chord, root_id=request.root_id)
        self.backend.add_to_chord(request.group, sig.freeze())
        return sig if lazy else sig.delay()

    def send_event(self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any) -> Any:
        """Send an event of the user's own about the running task to monitors.

        Args:
            type_: the event's type, such as ``task-progress``.
            retry, retry_policy: as in ``apply_async``.
            fields: what the event carries, besides the task's id.
        """
        return self.app.send_event(
            type_,
            uuid=self.request.id,
            hostname=self.request.hostname,
            retry=retry,
            retry_policy=retry_policy,
            **fields,
        )

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request by hand."""
        self.request_stack.push(Context(*args, **kwargs))

    def pop_request(self) -> None:
        """End a request begun by hand."""
        self.request_stack.pop()

    # -- hooks

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called by the worker before the task runs."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called by the worker when the task returned."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called by the worker when the task was sent again."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called by the worker when the task raised."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called by the worker when the task returned or raised."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _task_named, (self.name, type(self).__module__)

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {self.app!r}>" if type(self)._app else f"<@task: {self.name}>"


def _task_named(name: str, module: str | None = None) -> Task[Any, Any]:
    app = find_current_app()
    if app is None:
        raise ImproperlyConfigured(f"the task {name!r} has no app here")
    return app.tasks[name]


def _sequence(args: Any) -> Sequence[Any]:
    if isinstance(args, (list, tuple)):
        return args
    raise TypeError("task args must be a list or tuple")


def _inherit(parent: Task[Any, Any], options: dict[str, Any], app: Celery) -> None:
    request = parent.request
    # A retried request's options name them even when there are none.
    options["root_id"] = options.get("root_id") or request.root_id or request.id
    options["parent_id"] = options.get("parent_id") or request.id
    if app.conf.task_inherit_parent_priority:
        options.setdefault("priority", (request.delivery_info or {}).get("priority"))


def _raise_current(error: BaseException) -> NoReturn:
    """Raise the exception being handled if it is the one meant, else the given one because of it."""
    current = sys.exc_info()[1]
    if current is None:
        raise error
    if current is error:
        raise
    raise error from current

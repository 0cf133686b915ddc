"""Tasks: what an app's decorator makes of a function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar, overload

from pyworker.canvas.maps import chunks, xmap, xstarmap
from pyworker.canvas.signature import Signature, as_list, signature
from pyworker.current import Stack, find_current_app, get_current_worker_task, task_stack
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
from pyworker.publish.publisher import Call
from pyworker.request import Context
from pyworker.result import AsyncResult

if TYPE_CHECKING:
    from datetime import datetime

    from pyworker.app import Celery

P = ParamSpec("P")
R = TypeVar("R")


class Configured:
    """A task attribute that has its setting's value unless the task's class or the decorator sets it."""

    def __init__(self, setting: str) -> None:
        self._setting = setting

    def __get__(self, task: Task[Any, Any] | None, owner: type[Task[Any, Any]]) -> Any:
        app = task.app if task is not None else owner._app
        return None if app is None else app.conf[self._setting]


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
    #: Whether arguments are checked when the task is called; the app's ``strict_typing`` decides otherwise.
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
    reject_on_worker_lost: Any = Configured("task_reject_on_worker_lost")
    ignore_result: Any = Configured("task_ignore_result")
    store_eager_result: Any = Configured("task_store_eager_result")
    store_errors_even_if_ignored: Any = Configured("task_store_errors_even_if_ignored")

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
        return self.app.backend

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
            producer: without effect; publishing is native.
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
        app = self.app
        if app.conf.task_always_eager:
            raise ImproperlyConfigured("task_always_eager is not supported yet")
        shadow = shadow or self.shadow_name(given, named, options)
        for option, value in (("link", link), ("link_error", link_error), ("shadow", shadow)):
            if value:
                options[option] = value
        add_to_parent = options.pop("add_to_parent", True)
        parent = get_current_worker_task()
        if parent is not None:
            _inherit(parent, options, app)
        task_id = task_id or uuid()
        ignored = options.get("ignore_result")
        app.publish_call(Call(self.name, self, task_id, given, named, options))
        result: AsyncResult[R] = AsyncResult(task_id, None, self.name, app)
        result.ignored = self.ignore_result if ignored is None else ignored
        if parent is not None and add_to_parent:
            parent.add_trail(result)
        return result

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise the ``TypeError`` that calling the task with these arguments would."""
        header = self.__header__
        if header is None:
            return
        typing = self.typing
        if typing or (typing is None and self.app.strict_typing):
            header(*args, **kwargs)

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """Return another name for logs; to be overridden."""
        return None

    @property
    def publishes_plainly(self) -> bool:
        """Whether sending this task needs nothing of its class's own."""
        kind = type(self)
        return kind.apply_async is Task.apply_async and kind.shadow_name is Task.shadow_name

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
        return Signature(self, args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Return a signature that takes no further arguments."""
        return Signature(self, args, kwargs, immutable=True)

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
        """Store a state of the user's own for the running task."""
        self.backend.store_result(task_id or self.request.id, meta, state, request=self.request)

    def add_trail(self, result: Any) -> Any:
        """Remember a result as a child of this run."""
        if self.trail:
            self.request.children.append(result)
        return result

    def replace(self, sig: Any) -> NoReturn:
        """End this run; the signature runs in its place, under its id.

        Raises:
            Ignore: always.
        """
        if "chord" in sig.options:
            raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
        request = self.request
        for callback in as_list(request.callbacks):
            sig.link(callback)
        for errback in as_list(request.errbacks):
            sig.link_error(errback)
        options = {
            "chain": request.chain, "chord": request.chord, "group_id": request.group,
            "group_index": request.group_index, "root_id": request.root_id,
            "replaced_task_nesting": request.replaced_task_nesting + 1,
        }  # fmt: skip
        sig.set(**{name: value for name, value in options.items() if value is not None})
        sig.freeze(request.id)
        sig.delay()
        raise Ignore("Replaced by new task")

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

"""Running a task here and now, with everything around it that a worker does: ``apply`` and ``task_always_eager``."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.current import task_stack
from pyworker.eager_result import EagerResult
from pyworker.exceptions import Ignore, InvalidTaskError, Reject, Retry
from pyworker.followups import record_failure, send_followers
from pyworker.publish.encoding import encode_body
from pyworker.request import Context
from pyworker.saferepr import saferepr
from pyworker.signals import task_failure, task_internal_error, task_postrun, task_prerun, task_retry, task_success
from pyworker.task import Task
from pyworker.worker.exception_info import ExceptionInfo, describe

if TYPE_CHECKING:
    from pyworker.app.base import Celery

#: The logger of Celery's tracer: people filter by it.
logger = logging.getLogger("celery.app.trace")

_WITHOUT_AFTER_RETURN = frozenset({states.IGNORED, states.REJECTED, states.RETRY})


def sent_and_received(args: Sequence[Any], kwargs: Mapping[str, Any], serializer: str) -> tuple[Any, Any]:
    """Return arguments as a worker would get them: through the serializer and back.

    Raises:
        kombu.exceptions.EncodeError: they cannot be serialized.
    """
    from kombu.serialization import loads

    payload = encode_body((args, kwargs), serializer)
    received = loads(payload.data, payload.content_type, payload.content_encoding, accept=[payload.content_type])
    return tuple(received[0]), received[1]


def eager_request(task: Task[Any, Any], task_id: str, retries: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that ``apply`` makes up: what a worker would have read from the message."""
    parent = task_stack.top
    limits = (task.time_limit, task.soft_time_limit)
    stamped = _listed(options.get("stamped_headers"))
    request: dict[str, Any] = {
        "id": task_id,
        "task": task.name,
        "parent_id": options.get("parent_id") or (parent.request.id if parent is not None else None),
        "root_id": options.get("root_id") or (parent.request.root_id if parent is not None else None) or task_id,
        "group": options.get("group_id"),
        "group_index": options.get("group_index"),
        "chord": options.get("chord"),
        "chain": options.get("chain"),
        "retries": retries,
        "is_eager": True,
        "logfile": options.get("logfile"),
        "loglevel": options.get("loglevel") or 0,
        "hostname": socket.gethostname(),
        "callbacks": _listed(options.get("link")),
        "errbacks": _listed(options.get("link_error")),
        "headers": options.get("headers"),
        "shadow": options.get("shadow"),
        "timelimit": None if limits == (None, None) else list(limits),
        "delivery_info": {"is_eager": True, **{key: options.get(key) for key in ("exchange", "routing_key",
                                                                               "priority")}},
    }  # fmt: skip
    if options.get("ignore_result") is not None:
        request["ignore_result"] = options["ignore_result"]
    if stamped:
        request["stamped_headers"] = stamped
        request["stamps"] = {header: _listed(options.get(header)) or [] for header in stamped}
    return request


def run_eagerly(
    task: Task[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    request: dict[str, Any],
    throw: bool,
) -> EagerResult:
    """Run a task, its retries and what follows it, and return its result.

    Args:
        task: the task.
        args, kwargs: its arguments.
        request: what :func:`eager_request` returns.
        throw: raise what the task raises.

    Raises:
        InvalidTaskError: ``kwargs`` is no mapping.
    """
    if not isinstance(kwargs, Mapping):
        raise InvalidTaskError("Task keyword arguments is not a mapping")
    run = _EagerRun(task, args, kwargs, request, throw)
    run.perform()
    if isinstance(run.returned, Retry) and run.returned.sig is not None:
        sig = run.returned.sig
        options = {**sig.options, "retries": request["retries"] + 1}
        return task.apply(sig.args, sig.kwargs, throw=throw, **options)
    traceback = run.einfo.traceback if run.einfo is not None else None
    state = run.state or states.SUCCESS
    return EagerResult(run.task_id, run.returned, state, traceback, task.name, task.app)


class _EagerRun:
    """One run: the same steps in the same order as in a worker's child."""

    def __init__(
        self, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any], request: dict[str, Any], throw: bool
    ) -> None:
        self._task = task
        self._app: Celery = task.app
        self._args = args
        self._kwargs = kwargs
        self._throws = throw
        self._context = Context(request, args=args, kwargs=kwargs, called_directly=False)
        self.task_id: str = request["id"]
        given = request.get("ignore_result")
        self._is_ignored = bool(task.ignore_result if given is None else given)
        #: None until the body returned or raised something that is not thrown further.
        self.state: str | None = None
        self.returned: Any = None
        self.einfo: ExceptionInfo | None = None

    def perform(self) -> None:
        """Run the body and everything around it."""
        task = self._task
        task_stack.push(task)
        task.request_stack.push(self._context)
        try:
            task_prerun.send(sender=task, task_id=self.task_id, task=task, args=self._args, kwargs=self._kwargs)
            self._run_body()
            if self.state not in _WITHOUT_AFTER_RETURN:
                task.after_return(str(self.state), self.returned, self.task_id, self._args, self._kwargs, self.einfo)
        finally:
            try:
                task_postrun.send(
                    sender=task, task_id=self.task_id, task=task, args=self._args, kwargs=self._kwargs,
                    retval=self.returned, state=self.state,
                )  # fmt: skip
            finally:
                task.request_stack.pop()
                task_stack.pop()

    def _run_body(self) -> None:
        task, started_s = self._task, time.monotonic()
        body = task if type(task).__call__ is not Task.__call__ else task.run
        try:
            task.before_start(self.task_id, self._args, self._kwargs)
            self.returned = body(*self._args, **self._kwargs)
            self.state = states.SUCCESS
        except Reject as error:
            self._end(states.REJECTED, error)
            self._log(logging.WARNING, "Task %(name)s[%(id)s] %(exc)s")
        except Ignore as error:
            self._end(states.IGNORED, error)
            self._log(logging.INFO, "Task %(name)s[%(id)s] ignored")
        except Retry as error:
            self._retried(error)
        except Exception as error:
            self._failed(error)
        else:
            self._succeeded(started_s)

    def _succeeded(self, started_s: float) -> None:
        task = self._task
        try:
            send_followers(self._app, self.task_id, vars(self._context), self.returned)
            stores = bool(task.store_eager_result) and not self._is_ignored
            self._app.backend.mark_as_done(self.task_id, self.returned, self._context, stores)
        except Exception as error:
            self._failed(error)
            return
        task.on_success(self.returned, self.task_id, self._args, self._kwargs)
        runtime_s = time.monotonic() - started_s
        task_success.send(sender=task, result=self.returned, runtime=runtime_s)
        if logger.isEnabledFor(logging.INFO):
            text = saferepr(self.returned, task.resultrepr_maxsize)
            self._log(logging.INFO, "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s",
                      return_value=text, runtime=runtime_s)  # fmt: skip

    def _retried(self, error: Retry) -> None:
        if self._throws:
            raise error
        task = self._task
        self._end(states.RETRY, error)
        assert self.einfo is not None
        if self._stores_errors():
            reason = error.exc if error.exc is not None else error
            self._app.backend.store_result(
                self.task_id, reason, states.RETRY, self.einfo.traceback, self._context
            )  # fmt: skip
        task.on_retry(error.exc, self.task_id, self._args, self._kwargs, self.einfo)
        task_retry.send(sender=task, request=self._context, reason=error, einfo=self.einfo)
        self._log(logging.INFO, "Task %(name)s[%(id)s] retry: %(exc)s", exc=str(error))

    def _failed(self, error: Exception) -> None:
        if self._throws:
            raise error
        self._end(states.FAILURE, error)
        task, einfo = self._task, self.einfo
        assert einfo is not None
        try:
            record_failure(
                self._app, self.task_id, error, einfo.traceback, self._context, stores=self._stores_errors()
            )  # fmt: skip
        except Exception as internal:
            task_internal_error.send(
                sender=task, task_id=self.task_id, args=self._args, kwargs=self._kwargs, request=vars(self._context),
                exception=internal, traceback=internal.__traceback__, einfo=ExceptionInfo(internal, internal=True),
            )  # fmt: skip
            raise
        task.on_failure(error, self.task_id, self._args, self._kwargs, einfo)
        task_failure.send(
            sender=task, task_id=self.task_id, exception=error, args=self._args, kwargs=self._kwargs,
            traceback=error.__traceback__, einfo=einfo,
        )  # fmt: skip
        is_expected = bool(task.throws) and isinstance(error, task.throws)
        self._log(
            logging.INFO if is_expected else logging.ERROR,
            "Task %(name)s[%(id)s] %(description)s: %(exc)s",
            description="raised expected" if is_expected else "raised unexpected",
        )

    def _end(self, state: str, error: BaseException) -> None:
        self.state, self.returned, self.einfo = state, error, ExceptionInfo(error)

    def _stores_errors(self) -> bool:
        task = self._task
        return bool(task.store_errors_even_if_ignored if self._is_ignored else task.store_eager_result)

    def _log(self, level: int, text: str, **more: Any) -> None:
        if not logger.isEnabledFor(level):
            return
        einfo = self.einfo
        data = {
            "hostname": self._context.hostname, "id": self.task_id, "name": self._context.shadow or self._task.name,
            "args": describe(self._args), "kwargs": describe(self._kwargs),
            "exc": describe(einfo.exception) if einfo is not None else "",
            "traceback": einfo.traceback if einfo is not None else None, "internal": False, **more,
        }  # fmt: skip
        exc_info = einfo.exc_info if einfo is not None and level >= logging.WARNING else None
        logger.log(level, text, data, exc_info=exc_info, extra={"data": data})


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]

"""What Celery's tracer does besides the plain success, called by the compiled tracer at the same places.

Celery changed some of it between 5.3 and 5.7; :class:`TracerRules` names the differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import celery.app.trace as celery_trace
from billiard.einfo import ExceptionInfo
from celery import group, states
from celery.canvas import maybe_signature
from celery.exceptions import Ignore, InvalidTaskError, Reject, Retry
from kombu.exceptions import EncodeError, OperationalError
from kombu.utils.encoding import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyworker.worker.trace import Run, TaskBinding

_NO_AFTER_RETURN = frozenset({states.IGNORED, states.RETRY, states.REJECTED})


@dataclass(frozen=True)
class TracerRules:
    """How the tracer of a Celery version differs from others."""

    #: The message's ``ignore_result`` counts before the task's (5.6).
    explicit_ignore: bool
    #: A Reject from outside the task's body rejects the message instead of being an internal error (5.6).
    reject_escapes: bool
    #: ``task_success`` has the run time (5.7).
    success_has_runtime: bool
    #: Errors of ``on_success`` and ``after_return`` are only logged (5.7).
    guards_hooks: bool
    #: A callback that cannot be published makes the task fail, and publishing is retried (5.7).
    publishing_can_fail: bool
    #: ``date_done`` names its time zone (5.4).
    aware_dates: bool
    #: ``date_done`` is in the app's time zone instead of UTC (5.5).
    local_dates: bool

    @classmethod
    def of(cls, version: tuple[int, int]) -> TracerRules:
        """Return the rules of a version."""
        return cls(
            explicit_ignore=version >= (5, 6),
            reject_escapes=version >= (5, 6),
            success_has_runtime=version >= (5, 7),
            guards_hooks=version >= (5, 7),
            publishing_can_fail=version >= (5, 7),
            aware_dates=version >= (5, 4),
            local_dates=version >= (5, 5),
        )

    @property
    def publish_errors(self) -> tuple[type[Exception], ...]:
        """Errors of storing and publishing that make the task fail."""
        return (EncodeError, OperationalError) if self.publishing_can_fail else (EncodeError,)

    @property
    def reraised_errors(self) -> tuple[type[Exception], ...]:
        """Errors that leave the tracer."""
        return (MemoryError, Reject) if self.reject_escapes else (MemoryError,)


class CeleryErrors:
    """The tracer's unusual paths (``pyworker.worker.trace_hooks.ErrorRules``)."""

    def __init__(self, app: Any, rules: TracerRules) -> None:
        self._app = app
        self._rules = rules
        self._inherits_priority = app.conf.task_inherit_parent_priority

    def check_keyword_arguments(self, kwargs: Any) -> None:
        """Raise what Celery raises for a message without a mapping of keyword arguments."""
        try:
            kwargs.items  # noqa: B018
        except AttributeError:
            raise InvalidTaskError("Task keyword arguments is not a mapping") from None

    def on_body_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle an exception of the task's body."""
        if isinstance(error, (Reject, Ignore)):
            is_reject = isinstance(error, Reject)
            info = celery_trace.TraceInfo(states.REJECTED if is_reject else states.IGNORED, error)
            run.info, run.result = info, ExceptionInfo(internal=True)
            run.state, run.returned = info.state, info.retval
            if is_reject:
                info.handle_reject(binding.task, run.context)
            else:
                info.handle_ignore(binding.task, run.context)
        elif isinstance(error, Retry):
            self._record(binding, run, error, states.RETRY, call_errbacks=False)
        else:
            self._record(binding, run, error, states.FAILURE)
        celery_trace.traceback_clear(error)

    def on_publish_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle an error of storing the result, or of publishing what follows."""
        if run.followers_sent and isinstance(error, OperationalError):
            # The result store's failure, not the publisher's: outside the task's body.
            raise error
        self._record(binding, run, error, states.FAILURE)
        celery_trace.traceback_clear(error)

    def on_internal_error(self, binding: TaskBinding, run: Run, error: Exception, request: dict[str, Any]) -> None:
        """Handle an exception from outside the task's body. ``request`` is the request as it came."""
        task = binding.task
        celery_trace._signal_internal_error(task, run.task_id, run.args, run.kwargs, request, error)
        result = celery_trace.report_internal_error(task, error)
        if run.context is not None:
            self._record(binding, run, error, states.FAILURE)
        run.result = result

    def dispatch(self, binding: TaskBinding, run: Run) -> None:
        """Publish the callbacks and the chain that the task attached to its own request."""
        request: Mapping[str, Any] = run.request
        priority = request["delivery_info"].get("priority") if self._inherits_priority else None
        options = {"parent_id": run.task_id, "root_id": request.get("root_id") or run.task_id, "priority": priority}
        callbacks, chain = request.get("callbacks"), request.get("chain")
        if callbacks:
            signatures = [maybe_signature(callback, app=self._app) for callback in callbacks]
            groups = [each for each in signatures if isinstance(each, group)] if len(signatures) > 1 else []
            others = [each for each in signatures if each not in groups]
            if len(signatures) > 1 and others:
                others = [group(others, app=self._app)]
            for each in (*groups, *others):
                self._publish(each.apply_async, run.returned, options)
        if chain:
            following = maybe_signature(chain[-1], app=self._app)
            self._publish(following.apply_async, run.returned, {"chain": chain[:-1], **options})

    def call_on_success(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``on_success``."""
        self._call(binding, run, "on_success", (run.returned, run.task_id, run.args, run.kwargs))

    def call_after_return(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``after_return`` unless the run will be repeated or counts for nothing."""
        if run.state not in _NO_AFTER_RETURN:
            arguments = (run.state, run.returned, run.task_id, run.args, run.kwargs, None)
            self._call(binding, run, "after_return", arguments)

    def log_success(self, binding: TaskBinding, run: Run) -> None:
        """Write Celery's line, with Celery's function: its place in the source is part of the record."""
        context = run.context
        celery_trace.info(
            celery_trace.LOG_SUCCESS,
            {
                "id": run.task_id,
                "name": celery_trace.get_task_name(context, binding.name),
                "return_value": run.text,
                "runtime": run.runtime_s,
                "args": context.get("argsrepr") or safe_repr(run.args),
                "kwargs": context.get("kwargsrepr") or safe_repr(run.kwargs),
            },
        )

    def _record(
        self, binding: TaskBinding, run: Run, error: Exception, state: str, *, call_errbacks: bool = True
    ) -> None:
        info = celery_trace.TraceInfo(state, error)
        run.result = info.handle_error_state(binding.task, run.context, eager=False, call_errbacks=call_errbacks)
        run.info, run.state, run.returned = info, info.state, info.retval

    def _publish(self, send: Callable[..., Any], returned: Any, options: dict[str, Any]) -> None:
        if self._rules.publishing_can_fail:
            self._app.amqp._retry_publish(send, (returned,), **options)
        else:
            send((returned,), **options)

    def _call(self, binding: TaskBinding, run: Run, hook: str, arguments: tuple[Any, ...]) -> None:
        function = getattr(binding, hook)
        if not self._rules.guards_hooks:
            function(*arguments)
            return
        try:
            function(*arguments)
        except (Reject, MemoryError):
            raise
        except Exception as error:
            # The outcome is stored: a second one would call the errbacks of a task that succeeded.
            name = celery_trace.get_task_name(run.context, binding.name)
            celery_trace.logger.exception("Task %s[%s] %s handler raised: %r", name, run.task_id, hook, error)
            celery_trace.traceback_clear(error)

"""Everything that is not the plain success of one of our own tasks: what the compiled tracer calls at its places."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker import states
from pyworker.exceptions import Ignore, InvalidTaskError, Reject, Retry
from pyworker.followups import record_failure, send_followers
from pyworker.request import Context
from pyworker.signals import task_failure, task_internal_error, task_retry
from pyworker.worker.exception_info import ExceptionInfo, clear_frames, describe
from pyworker.worker.protocol import TRACEBACK_MARK, Outcome
from pyworker.worker.tracing import sendable

if TYPE_CHECKING:
    from pyworker._native import ChildLink
    from pyworker.app import Celery
    from pyworker.task import Task
    from pyworker.worker.trace import Run, TaskBinding

#: The logger of Celery's tracer: people filter by it.
logger = logging.getLogger("celery.app.trace")
request_logger = logging.getLogger("celery.worker.request")

_LOG_SUCCESS = "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s"
_LOG_FAILURE = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
_LOG_IGNORED = "Task %(name)s[%(id)s] %(description)s"
_LOG_REJECTED = "Task %(name)s[%(id)s] %(exc)s"
_LOG_RETRY = "Task %(name)s[%(id)s] retry: %(exc)s"
_WITHOUT_AFTER_RETURN = frozenset({states.IGNORED, states.REJECTED, states.RETRY})


class Ending(NamedTuple):
    """How a run ended that was no success (the run's ``info``)."""

    state: str
    outcome: Outcome
    error: BaseException


class NativeErrors:
    """The unusual paths of a run (:class:`pyworker.worker.trace_hooks.ErrorRules`)."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def check_keyword_arguments(self, kwargs: Any) -> None:
        """Refuse keyword arguments that are no mapping."""
        if not isinstance(kwargs, Mapping):
            raise InvalidTaskError("Task keyword arguments is not a mapping")

    def on_body_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle an exception of the task's body."""
        if isinstance(error, Reject):
            outcome = Outcome.REJECTED_REQUEUE if error.requeue else Outcome.REJECTED
            self._end(run, Ending(states.REJECTED, outcome, error))
            self._log(binding, run, _LOG_REJECTED, logging.WARNING, ExceptionInfo(error, internal=True), "rejected")
        elif isinstance(error, Ignore):
            self._end(run, Ending(states.IGNORED, Outcome.IGNORED, error))
            self._log(binding, run, _LOG_IGNORED, logging.INFO, ExceptionInfo(error, internal=True), "ignored")
        elif isinstance(error, Retry):
            self._retried(binding, run, error)
        else:
            self._failed(binding, run, error, internal=False)
        clear_frames(error)

    def on_publish_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle an error of storing the result, or of publishing what follows."""
        self._failed(binding, run, error, internal=False)
        clear_frames(error)

    def on_internal_error(self, binding: TaskBinding, run: Run, error: Exception, request: dict[str, Any]) -> None:
        """Handle an exception from outside the task's body."""
        einfo = ExceptionInfo(error, internal=True)
        task_internal_error.send(
            sender=binding.task, task_id=run.task_id, args=run.args, kwargs=run.kwargs, request=request,
            exception=error, traceback=error.__traceback__, einfo=einfo,
        )  # fmt: skip
        logger.warning("Exception raised outside body: %r:\n%s", error, einfo.traceback)
        if run.context is None:
            self._end(run, Ending(states.FAILURE, Outcome.INTERNAL_ERROR, error))
        else:
            self._failed(binding, run, error, internal=True)

    def dispatch(self, binding: TaskBinding, run: Run) -> None:
        """Publish what follows the task."""
        send_followers(self._app, run.task_id, run.request, run.returned)

    def call_on_success(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``on_success``."""
        self._call(binding, run, "on_success", binding.on_success, run.returned, run.task_id, run.args, run.kwargs)

    def call_after_return(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``after_return`` unless the run counts for nothing or is repeated."""
        if run.state not in _WITHOUT_AFTER_RETURN:
            einfo = ExceptionInfo(run.info.error) if run.info is not None else None
            self._call(
                binding,
                run,
                "after_return",
                binding.after_return,
                run.state,
                run.returned,
                run.task_id,
                run.args,
                run.kwargs,
                einfo,
            )

    def log_success(self, binding: TaskBinding, run: Run) -> None:
        """Write the line that says that the task succeeded."""
        data = {
            **_described(binding.task, run.context, run.task_id),
            "return_value": run.text,
            "runtime": run.runtime_s,
        }
        logger.info(_LOG_SUCCESS, data, extra={"data": data})

    # -- parts

    def _end(self, run: Run, ending: Ending) -> None:
        run.info, run.state, run.returned = ending, ending.state, ending.error

    def _retried(self, binding: TaskBinding, run: Run, error: Retry) -> None:
        task, request = binding.task, run.context
        self._end(run, Ending(states.RETRY, Outcome.RETRY, error))
        einfo = ExceptionInfo(error)
        if _stores_errors(task, run.ignored):
            reason = error.exc if error.exc is not None else error
            self._app.backend.store_result(run.task_id, reason, states.RETRY, einfo.traceback, request)
        task.on_retry(error.exc, run.task_id, run.args, run.kwargs, einfo)
        task_retry.send(sender=task, request=request, reason=error, einfo=einfo)
        data = {**_described(task, request, run.task_id), "exc": str(error)}
        logger.info(_LOG_RETRY, data, extra={"data": data})

    def _failed(self, binding: TaskBinding, run: Run, error: Exception, *, internal: bool) -> None:
        task, request = binding.task, run.context
        outcome = Outcome.INTERNAL_ERROR if internal else Outcome.FAILURE
        self._end(run, Ending(states.FAILURE, outcome, error))
        einfo = ExceptionInfo(error, internal)
        record_failure(
            self._app, run.task_id, error, einfo.traceback, request, stores=_stores_errors(task, run.ignored)
        )
        task.on_failure(error, run.task_id, run.args, run.kwargs, einfo)
        task_failure.send(
            sender=task, task_id=run.task_id, exception=error, args=run.args, kwargs=run.kwargs,
            traceback=error.__traceback__, einfo=einfo,
        )  # fmt: skip
        if internal:
            self._log(binding, run, _LOG_FAILURE, logging.CRITICAL, einfo, "INTERNAL ERROR")
        elif task.throws and isinstance(error, task.throws):
            self._log(binding, run, _LOG_FAILURE, logging.INFO, einfo, "raised expected")
        else:
            self._log(binding, run, _LOG_FAILURE, logging.ERROR, einfo, "raised unexpected")

    def _log(
        self, binding: TaskBinding, run: Run, text: str, level: int, einfo: ExceptionInfo, description: str
    ) -> None:
        data = {
            **_described(binding.task, run.context, run.task_id),
            "exc": describe(einfo.exception),
            "traceback": einfo.traceback,
            "description": description,
            "internal": einfo.internal,
        }
        has_traceback = level >= logging.WARNING
        logger.log(level, text, data, exc_info=einfo.exc_info if has_traceback else None, extra={"data": data})

    def _call(self, binding: TaskBinding, run: Run, name: str, hook: Callable[..., Any], *arguments: Any) -> None:
        try:
            hook(*arguments)
        except (Reject, MemoryError):
            raise
        except Exception as error:
            # The outcome is stored: a second one would call the errbacks of a task that succeeded.
            logger.exception("Task %s[%s] %s handler raised: %r", binding.name, run.task_id, name, error)


#: Ends whose events tell the traceback.
_WITH_TRACEBACK = (Outcome.FAILURE, Outcome.RETRY, Outcome.INTERNAL_ERROR)


class NativeRuns:
    """Reports what comes of runs (:class:`pyworker.worker.trace_hooks.LibraryRuns`)."""

    def __init__(self, app: Celery, tasks: list[Task[Any, Any]]) -> None:
        self._app = app
        self._tasks = tasks

    def trace(self, index: int, run: Run, link: ChildLink) -> None:
        """There is no second tracer: nothing of ours needs one."""
        raise NotImplementedError("every task of ours runs in the fast lane")

    def finish(self, run: Run, link: ChildLink) -> None:
        """Report a run that was no success."""
        ending: Ending = run.info
        error = ending.error.exc if isinstance(ending.error, Retry) else ending.error
        text = describe(error)
        if ending.outcome in _WITH_TRACEBACK and run.wants_text:
            text = f"{text}{TRACEBACK_MARK}{ExceptionInfo(ending.error).traceback}"
        link.finish(run.sequence, ending.outcome, run.runtime_s, sendable(text))

    def on_undecodable(self, sequence: int, error: BaseException, link: ChildLink) -> None:
        """Leave the message to the parent."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        link.finish(sequence, Outcome.UNDECODABLE, 0.0, sendable(describe(error)))

    def on_escaped(self, index: int, run: Run, error: BaseException, link: ChildLink) -> None:
        """Report an exception that came out of the tracer."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        if link.running() != run.sequence:
            request_logger.error("Task %s ended before this could reach it: %r", run.task_id, error)
            return
        outcome = Outcome.INTERNAL_ERROR
        if isinstance(error, Reject):
            outcome = Outcome.REJECTED_REQUEUE if error.requeue else Outcome.REJECTED
        else:
            self._record(self._tasks[index], run, error)
        link.finish(run.sequence, outcome, run.runtime_s, sendable(describe(error)))

    def _record(self, task: Task[Any, Any], run: Run, error: BaseException) -> None:
        einfo = ExceptionInfo(error)
        context = run.context if run.context is not None else Context(run.request)
        try:
            record_failure(
                self._app, run.task_id, error, einfo.traceback, context, stores=_stores_errors(task, run.ignored)
            )
            task_failure.send(
                sender=task, task_id=run.task_id, exception=error, args=run.args, kwargs=run.kwargs,
                traceback=einfo.traceback, einfo=einfo,
            )  # fmt: skip
        except Exception:
            request_logger.exception("Could not record the failure of task %s", run.task_id)
        request_logger.error("Task handler raised error: %r", error, exc_info=einfo.exc_info)


def _stores_errors(task: Task[Any, Any], ignored: bool) -> bool:
    return not ignored or bool(task.store_errors_even_if_ignored)


def _described(task: Task[Any, Any], request: Any, task_id: str) -> dict[str, Any]:
    return {
        "hostname": getattr(request, "hostname", None),
        "id": task_id,
        "name": getattr(request, "shadow", None) or task.name,
        "args": getattr(request, "argsrepr", None) or describe(getattr(request, "args", ())),
        "kwargs": getattr(request, "kwargsrepr", None) or describe(getattr(request, "kwargs", {})),
    }

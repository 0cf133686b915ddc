"""The library lane: Celery's own tracer runs the task; decoding, storing and reporting are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import celery.app.trace
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.app.task import Context
from celery.exceptions import Reject
from celery.utils.log import get_logger
from kombu.utils.encoding import safe_repr

from pyworker.compat.celery.held_requests import has_own_request
from pyworker.compat.celery.job_reports import JobReport, write_report
from pyworker.compat.celery.outcomes import read_outcome
from pyworker.compat.celery.versions import installed_version
from pyworker.worker.protocol import Outcome
from pyworker.worker.tracing import sendable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import ChildLink
    from pyworker.worker.trace import Run

#: Under this name Celery's request, which lives in the parent there, logs what came out of a tracer.
logger = get_logger("celery.worker.request")


def _storable(error: BaseException) -> Exception:
    """Return what result stores before Celery 5.7 can write: they know exceptions that are an ``Exception`` alone."""
    if isinstance(error, Exception):
        return error
    kind = type(error)
    made: Exception = type(kind.__name__, (Exception,), {"__module__": kind.__module__})(*error.args)
    return made


class LibraryLane:
    """Runs decoded jobs by ``task.__trace__`` and reports what comes of any tracer."""

    def __init__(self, app: Any, hostname: str, task_names: Sequence[str]) -> None:
        self._app = app
        self._hostname = hostname
        self._names = task_names
        self._is_watched = [has_own_request(app.tasks[name]) for name in task_names]

    def trace(self, index: int, run: Run, link: ChildLink) -> None:
        """Run a decoded job by Celery's tracer, whatever that is by now, and report it."""
        task = self._app._tasks[self._names[index]]
        if task.__trace__ is None:
            task.__trace__ = celery.app.trace.build_tracer(
                task.name, task, self._app.loader, self._hostname, app=self._app
            )
        run.result, run.info, runtime_s, text = task.__trace__(run.task_id, run.args, run.kwargs, run.request)
        run.runtime_s = runtime_s or 0.0
        run.text = text or ""
        if self._is_watched[index]:
            self._report(
                run, JobReport(False, run.info is not None, run.result if run.info else run.text, runtime_s), link
            )
        else:
            self.finish(run, link)

    def _report(self, run: Run, report: JobReport, link: ChildLink) -> None:
        """Report to the request in the main process, which does what is left to do."""
        outcome = Outcome.INTERNAL_ERROR if report.escaped else read_outcome(run.result, run.info)[0]
        link.finish(run.sequence, outcome, run.runtime_s, write_report(report))

    def finish(self, run: Run, link: ChildLink) -> None:
        """Report what a tracer returned."""
        outcome, text = read_outcome(run.result, run.info)
        link.finish(run.sequence, outcome, run.runtime_s, sendable(text or run.text))

    def on_undecodable(self, sequence: int, error: BaseException, link: ChildLink) -> None:
        """Leave the message to the parent, which classifies it as Celery's consumer does."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        link.finish(sequence, Outcome.UNDECODABLE, 0.0, sendable(safe_repr(error)))

    def on_escaped(self, index: int, run: Run, error: BaseException, link: ChildLink) -> None:
        """Do what ``Request.on_failure`` does about an exception that left the tracer."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        if link.running() != run.sequence:
            # It was finished already: a time limit that came too late to hit anything.
            logger.error("Task %s ended before this could reach it: %r", run.task_id, error)
            return
        if self._is_watched[index]:
            einfo = ExceptionInfo((type(error), error, error.__traceback__))
            self._report(run, JobReport(True, True, einfo, run.runtime_s), link)
            return
        outcome = Outcome.INTERNAL_ERROR
        if isinstance(error, Reject):
            outcome = Outcome.REJECTED_REQUEUE if error.requeue else Outcome.REJECTED
        else:
            self._record_failure(self._app._tasks[self._names[index]], run, error)
        link.finish(run.sequence, outcome, run.runtime_s, sendable(safe_repr(error)))

    def _record_failure(self, task: Any, run: Run, error: BaseException) -> None:
        einfo = ExceptionInfo((type(error), error, error.__traceback__))
        context = run.context if run.context is not None else Context(run.request)
        ignored = context.ignore_result if "ignore_result" in vars(context) else None
        ignored = task.ignore_result if ignored is None else ignored
        try:
            task.backend.mark_as_failure(
                run.task_id,
                error if installed_version() >= (5, 7) else _storable(error),
                request=context,
                store_result=not ignored or task.store_errors_even_if_ignored,
            )
            task.request_stack.push(context)
            try:
                signals.task_failure.send(
                    sender=task,
                    task_id=run.task_id,
                    exception=error,
                    args=run.args,
                    kwargs=run.kwargs,
                    traceback=einfo.traceback,
                    einfo=einfo,
                )
            finally:
                task.request_stack.pop()
        except Exception:
            logger.exception("Could not record the failure of task %s", run.task_id)
        logger.error("Task handler raised error: %r", error, exc_info=einfo.exc_info)

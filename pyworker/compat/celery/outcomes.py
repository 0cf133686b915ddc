"""What Celery's tracer returns, read as ``Request.on_success`` and its relatives in the parent would read it."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery import states
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import get_pickled_exception
from kombu.utils.encoding import safe_repr, safe_str

from pyworker.worker.protocol import TRACEBACK_MARK, Outcome


def read_outcome(result: Any, info: Any) -> tuple[Outcome, str]:
    """Return how a run ended and the text for events.

    Args:
        result: the tracer's R, an exception info unless the task succeeded.
        info: the tracer's I; None means success, also for a repeated message that was skipped.
    """
    if info is None:
        return Outcome.SUCCESS, ""
    error = getattr(result, "exception", None)
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, Reject):
        return (Outcome.REJECTED_REQUEUE if error.requeue else Outcome.REJECTED), safe_repr(error)
    if isinstance(error, Ignore):
        return Outcome.IGNORED, safe_repr(error)
    if isinstance(error, Retry):
        return Outcome.RETRY, f"{safe_repr(error.exc)}{TRACEBACK_MARK}{safe_str(result.traceback)}"
    text = f"{safe_repr(get_pickled_exception(error))}{TRACEBACK_MARK}{result.traceback}"
    is_internal = info.state == states.FAILURE and getattr(result, "internal", False)
    return (Outcome.INTERNAL_ERROR if is_internal else Outcome.FAILURE), text

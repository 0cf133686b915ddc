"""What a child says about the end of a watched task: the very result that Celery's pool would hand to the request.

It crosses the pool link as text. Only what this worker's own children wrote is ever read here, as upstream reads what
comes through its pool's pipes; a message's body never gets here.
"""

from __future__ import annotations

import base64
import pickle
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery.utils.serialization import get_pickleable_exception
from kombu.utils.encoding import safe_repr


class JobReport(NamedTuple):
    """How a job ended, with the names and meanings of ``Request.on_success`` and its relatives."""

    #: The exception left the tracer: the request's ``on_failure`` is called, not its ``on_success``.
    escaped: bool
    failed: bool
    #: The result's text, or an :class:`ExceptionInfo`.
    value: Any
    runtime_s: float


def write_report(report: JobReport) -> str:
    """Return the report as text; an exception that cannot be pickled is replaced as Celery does."""
    try:
        data = pickle.dumps(tuple(report))
    except Exception:
        data = pickle.dumps(tuple(report._replace(value=_pickleable(report.value))))
    return base64.b64encode(data).decode("ascii")


def read_report(text: str) -> JobReport:
    """Return the report that :func:`write_report` wrote."""
    return JobReport(*pickle.loads(base64.b64decode(text)))


def _pickleable(value: Any) -> Any:
    error: Any = getattr(value, "exception", None)
    if not isinstance(error, BaseException):
        return safe_repr(value)
    error = getattr(error, "exc", error)
    plain = get_pickleable_exception(error)
    return ExceptionInfo((type(plain), plain, error.__traceback__))

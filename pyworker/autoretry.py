"""Retrying by kind of exception: ``autoretry_for`` and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import Ignore, Retry

if TYPE_CHECKING:
    from pyworker.task import Task


def backoff_s(factor: float, retries: int, maximum: float, has_jitter: bool) -> int:
    """Return the countdown of a retry: doubling from ``factor``, bounded, and random below that with jitter."""
    seconds = min(int(maximum), int(factor) << retries)
    if has_jitter:
        # Not at the top: only workers retry.
        import random

        seconds = random.randrange(seconds + 1)
    return max(0, seconds)


def retrying(task: Task[Any, Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """Return the task's body, made to retry on the exceptions that the task names."""
    kinds = tuple(task.autoretry_for or ())
    passed: tuple[type[BaseException], ...] = (Ignore, Retry, *(task.dont_autoretry_for or ()))
    if not kinds:
        return run

    @wraps(run)
    def run_or_retry(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except passed:
            raise
        except kinds as error:
            options = dict(task.retry_kwargs or {})
            if task.retry_backoff:
                options["countdown"] = backoff_s(
                    max(1.0, float(task.retry_backoff)),
                    task.request.retries,
                    task.retry_backoff_max,
                    task.retry_jitter,
                )
            raise task.retry(exc=error, **options) from error

    return run_or_retry

"""What stock results leave behind: subscriptions at servers that end, and what a failed wait knew."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from celery.backends.redis import ResultConsumer
from celery.result import AsyncResult, ResultSet

if TYPE_CHECKING:
    import pytest


def forget_subscriptions(port: int) -> None:
    """Let the stock clients of a Redis server that ends drop what they still subscribe to there.

    A result that nobody fetched unsubscribes when it is collected, which may be in the middle of a later test: Celery's
    client then looks for 19 s for the server that has gone, and the later test's ``get()`` fails on its time limit.
    """
    for each in gc.get_objects():
        if issubclass(type(each), ResultConsumer) and each.backend.connparams.get("port") == port:
            each.subscribed_to.clear()


def what_a_wait_left(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Tell, of each result that a failed ``get()`` waited for, what the client knew and what the store says now.

    A result that is stored and subscribed to was missed by the client; one that is not stored is ours to find.
    """
    waited = [entry.frame.f_locals.get("result") for entry in error.traceback]
    found = next((each for each in reversed(waited) if isinstance(each, (AsyncResult, ResultSet))), None)
    if found is None:
        return ""
    lines = [f"asked at {time.time():.3f}"]
    for each in getattr(found, "results", [found]):
        lines.append(f"{each.id}: ready for the client: {each.on_ready.ready}; {_in_the_store(each)}")
    return "\n".join(lines)


def _in_the_store(result: AsyncResult) -> str:
    backend = result.backend
    try:
        stored = backend.get(backend.get_key_for_task(result.id))
        subscribed = backend.get_key_for_task(result.id) in backend.result_consumer.subscribed_to
    except Exception as problem:
        return f"no answer: {problem!r}"
    return f"stored: {stored!r}; subscribed: {subscribed}"

"""An app whose tasks have a request class of their own, which writes down what the worker tells it."""

from __future__ import annotations

import os
from typing import Any

import journal
import lanes
from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject
from celery.worker.request import Request

app = Celery("own_requests", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True)
lanes.enter_lane()


class Watched(Request):
    """Writes down each call with what Celery's pool hands to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._calls: list[str] = []

    def _note(self, call: str, *details: Any) -> None:
        self._calls.append(call)
        journal.record("requests", call=call, details=details, calls=list(self._calls), task=self.name)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self._note("on_accepted", pid != os.getpid(), time_accepted > 0)
        super().on_accepted(pid, time_accepted)

    def acknowledge(self) -> None:
        # Celery's own subclass hides an ``on_success``, but this is called from it.
        self._note("acknowledge")
        super().acknowledge()

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        error = exc_info.exception
        error = getattr(error, "exc", error)
        has_traceback = "Traceback" in exc_info.traceback or ": " in exc_info.traceback
        self._note("on_failure", type(error).__name__, has_traceback, sorted(kwargs))
        super().on_failure(exc_info, *args, **kwargs)

    def on_retry(self, exc_info: Any) -> None:
        self._note("on_retry", type(exc_info.exception).__name__)
        super().on_retry(exc_info)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        self._note("on_timeout", bool(soft), timeout)
        super().on_timeout(soft, timeout)


class WatchedTask(Task):
    Request = Watched


def on_received(request: Any = None, **_: Any) -> None:
    journal.stamp("received", "received", id=request.id)


if os.environ.get("TEST_LANE") != "producer":
    signals.task_received.connect(on_received)


@app.task(base=WatchedTask)
def succeed(x: int) -> int:
    journal.stamp("received", "ran")
    return x + 1


@app.task(base=WatchedTask, acks_late=True)
def succeed_late(x: int) -> int:
    return x + 1


@app.task(base=WatchedTask)
def fail() -> None:
    raise ValueError("on purpose")


@app.task(base=WatchedTask, bind=True, max_retries=1)
def retry_once(self: Task) -> str:
    if not self.request.retries:
        raise self.retry(exc=KeyError("once"), countdown=0)
    return "done"


@app.task(base=WatchedTask)
def ignore() -> None:
    raise Ignore


@app.task(base=WatchedTask, acks_late=True)
def reject() -> None:
    raise Reject("never", requeue=False)


@app.task(base=WatchedTask, time_limit=1)
def too_long() -> None:
    journal.wait_at_gate("never opened")


@app.task(base=WatchedTask)
def die() -> None:
    os._exit(9)

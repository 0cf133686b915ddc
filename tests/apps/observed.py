"""An app that writes down every signal and hook it sees: which, in which process, with which arguments."""

from __future__ import annotations

import os
from typing import Any

import journal
import lanes
from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject

app = Celery("observed", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True, task_track_started=False)
lanes.enter_lane()

_main_process = os.getpid()

#: Signals of the worker's life and the keyword arguments whose values are recorded with the names of all.
_LIFE = (
    "celeryd_init worker_init celeryd_after_setup worker_before_create_process worker_ready worker_process_init "
    "worker_process_shutdown worker_shutting_down worker_shutdown import_modules"
)
_TASK = (
    "task_prerun task_postrun task_success task_failure task_retry task_internal_error task_revoked task_rejected "
    "task_unknown"
)


def _name_of(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool, type(None), list, tuple, dict)):
        return value
    return getattr(value, "name", None) or type(value).__name__


def _watch(name: str, journal_name: str) -> None:
    def receive(sender: Any = None, **arguments: Any) -> None:
        arguments.pop("signal")
        shown = {key: _name_of(value) for key, value in arguments.items()}
        journal.record(
            journal_name,
            signal=name,
            sender=_name_of(sender),
            keys=sorted(arguments),
            is_main=os.getpid() == _main_process,
            arguments={key: repr(value) for key, value in shown.items()},
        )

    getattr(signals, name).connect(receive, weak=False)


if os.environ.get("TEST_LANE") != "producer":
    for _each in _LIFE.split():
        _watch(_each, "life")
    for _each in _TASK.split():
        _watch(_each, "signals")
if os.environ.get("TEST_LANE") == "parent":
    _watch("task_received", "received")


class Hooked(Task):
    """Writes down every handler."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        journal.record("signals", hook="before_start", args=[args, kwargs])

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        journal.record("signals", hook="on_success", args=[retval, args, kwargs])

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        journal.record("signals", hook="on_failure", args=[repr(exc), args, kwargs, type(einfo).__name__])

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        journal.record("signals", hook="on_retry", args=[type(exc).__name__, args, kwargs, type(einfo).__name__])

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        journal.record("signals", hook="after_return", args=[status, repr(retval), args, kwargs, type(einfo).__name__])


class Called(Task):
    """Has a ``__call__`` of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        journal.record("signals", hook="__call__", args=[args, kwargs])
        return self.run(*args, **kwargs)


class Counting(Task):
    """Keeps state between the requests of a process."""

    def __init__(self) -> None:
        self.runs = 0


@app.task(base=Hooked)
def succeed(x: int, y: int = 0) -> int:
    journal.record("signals", hook="body", args=[])
    return x + y


@app.task(base=Hooked)
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(base=Hooked, bind=True, max_retries=1)
def retry_once(self: Task) -> str:
    if not self.request.retries:
        raise self.retry(exc=KeyError("once"), countdown=0)
    return "done"


@app.task(base=Hooked)
def ignore() -> None:
    raise Ignore


@app.task(base=Hooked, acks_late=True)
def reject() -> None:
    raise Reject("never", requeue=False)


@app.task(base=Hooked, track_started=True)
def tracked() -> str:
    return "seen"


@app.task(base=Hooked, time_limit=1)
def too_long() -> None:
    journal.wait_at_gate("never opened")


@app.task(base=Called)
def called(x: int) -> int:
    return x


@app.task(base=Counting, bind=True)
def count_runs(self: Any) -> list[int]:
    self.runs += 1
    return [os.getpid(), self.runs]


@app.task(base=Hooked)
def die() -> None:
    os._exit(9)


@app.task(base=Hooked)
def gated(gate: str) -> None:
    journal.record(gate, what="in")
    journal.wait_at_gate(gate)

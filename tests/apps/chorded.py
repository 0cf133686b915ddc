"""An application of our own API whose chords are counted while its worker's children are killed."""

from __future__ import annotations

import os
import signal
import sys
import time

if os.environ.get("TEST_WITHOUT_CELERY"):
    for missing in ("celery", "billiard"):
        sys.modules[missing] = None  # type: ignore[assignment]

import journal

from pyworker import Celery, signals

app = Celery(
    "chorded", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"], set_as_current=False
)


@signals.worker_process_init.connect
def announce_child(**_: object) -> None:
    """Let the tests know which processes run tasks."""
    journal.client().sadd("pool-children", os.getpid())


@app.task(name="chorded.surely", acks_late=True, reject_on_worker_lost=True, shared=False)
def surely(number: int, seconds: float) -> int:
    """Be a part that runs again when its child dies."""
    time.sleep(seconds)
    journal.client().hincrby("runs", str(number), 1)
    return number


@app.task(name="chorded.once", shared=False)
def once(number: int) -> int:
    """Be a part that nothing happens to."""
    return number


@app.task(name="chorded.dies", shared=False)
def dies() -> None:
    """Be a part that is lost with its child."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="chorded.body", bind=True, acks_late=True, reject_on_worker_lost=True, shared=False)
def body(self: object, values: list[int]) -> list[int]:
    """Get the parts."""
    journal.client().hincrby("bodies", self.request.id, 1)  # type: ignore[attr-defined]
    return [len(values), sum(values)]


@app.task(name="chorded.error", shared=False)
def error(request: object, exc: object, traceback: object) -> None:
    """Be told of a failure."""
    journal.client().hincrby("errors", request.id, 1)  # type: ignore[attr-defined]

"""An application with celery-batches: many messages are one call."""

from __future__ import annotations

import os
from typing import Any

import journal
from celery import Celery
from celery_batches import Batches

app = Celery("batched", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 20


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(base=Batches, flush_every=10, flush_interval=1)
def count(requests: list[Any]) -> int:
    """Note the batch, and give every request its result."""
    journal.stamp("batches", "run", numbers=[request.args[0] for request in requests])
    for request in requests:
        app.backend.mark_as_done(request.id, request.args[0] * 2, request=request)
    return len(requests)


@app.task(base=Batches, flush_every=5, flush_interval=1, acks_late=True)
def gather(requests: list[Any], gate: str = "") -> None:
    """Wait at a gate with a batch in hand."""
    journal.stamp("gather", "start", numbers=[request.args[0] for request in requests])
    journal.wait_at_gate("gather")
    journal.stamp("gather", "end", numbers=[request.args[0] for request in requests])


@app.task(base=Batches, flush_every=2, flush_interval=1)
def broken(requests: list[Any]) -> None:
    raise ValueError("this batch does not work")


@app.task(base=Batches, flush_every=100, flush_interval=600)
def patient(requests: list[Any]) -> None:
    """Keep its messages for longer than a test lasts."""

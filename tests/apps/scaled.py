"""An application of our own library whose pool, rate limits and events are changed while it runs."""

from __future__ import annotations

import os
from typing import Any

import journal

from pyworker import Celery
from pyworker.worker.autoscale import Autoscaler

app = Celery("scaled", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.broker_connection_retry_on_startup = True


class ThriftyAutoscaler(Autoscaler):
    """Says what it was made with, and adds one child at a time."""

    def __init__(self, engine: Any, max_concurrency: int, min_concurrency: int = 0, **options: Any) -> None:
        super().__init__(engine, max_concurrency, min_concurrency, **options)
        journal.record("autoscaler", most=max_concurrency, least=min_concurrency)

    def scale_up(self, count: int) -> None:
        journal.record("growth", asked=count)
        super().scale_up(1)


@app.task
def gated(gate: str, label: Any = None) -> Any:
    journal.stamp(gate, "start", label=label)
    journal.wait_at_gate(gate)
    return label


@app.task(rate_limit="1/h")
def hourly(name: str, label: Any = None) -> Any:
    journal.stamp(name, "run", label=label)
    return label

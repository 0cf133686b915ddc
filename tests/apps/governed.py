"""An app for the settings that govern what a node takes, keeps and gives up."""

from __future__ import annotations

from typing import Any

import journal
import lanes
from celery import Celery, Task
from celery.worker.autoscale import Autoscaler

app = Celery("governed", **lanes.new_app_settings())
app.conf.update(
    broker_connection_retry_on_startup=True,
    # What a cancelled task leaves behind in Redis comes back to a stock worker in a few seconds.
    broker_transport_options={
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
lanes.enter_lane()


class ThriftyAutoscaler(Autoscaler):
    """Says what it was made with, and adds one child at a time."""

    def __init__(self, pool: Any, max_concurrency: int, min_concurrency: int = 0, **options: Any) -> None:
        super().__init__(pool, max_concurrency, min_concurrency, **options)
        journal.record("autoscaler", most=max_concurrency, least=min_concurrency)

    def scale_up(self, n: int) -> Any:
        journal.record("growth", asked=n)
        return super().scale_up(1)


def _run(task: Task, gate: str, label: Any) -> Any:
    journal.stamp(gate, "start", label=label, id=task.request.id)
    journal.wait_at_gate(gate)
    journal.stamp(gate, "end", label=label, id=task.request.id)
    return label


@app.task(bind=True)
def gated(self: Task, gate: str, label: Any = None) -> Any:
    return _run(self, gate, label)


@app.task(bind=True, acks_late=True)
def gated_late(self: Task, gate: str, label: Any = None) -> Any:
    return _run(self, gate, label)


@app.task(bind=True, acks_late=True)
def once(self: Task, name: str) -> bool:
    redelivered = bool(self.request.delivery_info.get("redelivered"))
    journal.record(name, redelivered=redelivered)
    return redelivered


@app.task(rate_limit="1/h")
def hourly(name: str, label: Any = None) -> Any:
    journal.stamp(name, "run", label=label)
    return label

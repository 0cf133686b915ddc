"""An app with a visibility timeout of a few seconds, for fleets in which workers die."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import journal
import lanes
from celery import Celery, Task, signals

app = Celery("impatient", **lanes.new_app_settings())
app.conf.update(
    broker_connection_retry_on_startup=True,
    # kombu sweeps each unacked_restore_interval x 10 by default; here often enough for a test.
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("TEST_VISIBILITY_TIMEOUT", "5")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
lanes.enter_lane()


@signals.worker_process_init.connect
def announce_child(**_: Any) -> None:
    """Let the tests know which processes run tasks."""
    journal.client().sadd("pool-children", os.getpid())


def _count(name: str, member: str) -> int:
    journal.client().hincrby(f"shares:{name}", str(os.getppid()), 1)
    return journal.count(name, member)


@app.task
def count_early(name: str, member: str) -> int:
    return _count(name, member)


@app.task(acks_late=True)
def count_late(name: str, member: str) -> int:
    return _count(name, member)


@app.task(acks_late=True, reject_on_worker_lost=True)
def count_surely(name: str, member: str) -> int:
    return _count(name, member)


@app.task(acks_late=True)
def count_late_busy(name: str, member: str, seconds: float) -> int:
    threading.Event().wait(seconds)
    return _count(name, member)


@app.task(acks_late=True, reject_on_worker_lost=True)
def count_surely_busy(name: str, member: str, seconds: float) -> int:
    threading.Event().wait(seconds)
    return _count(name, member)


@app.task
def count_early_busy(name: str, member: str, seconds: float) -> int:
    journal.count(name + ":begun", member)
    threading.Event().wait(seconds)
    return _count(name, member)


@app.task(acks_late=True)
def gated_late(gate: str, label: Any = None) -> Any:
    journal.stamp(gate, "start", label=label)
    journal.wait_at_gate(gate)
    return label


@app.task(bind=True)
def terminates_itself(self: Task, name: str, member: str, seconds: float) -> int:
    """Ask for its own end, as an operator who is late does, and end by itself at about the same moment."""
    journal.count(name + ":begun", member)
    self.app.control.revoke(self.request.id, terminate=True)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return journal.count(name, member)

"""The tasks of the conformance suite, for an application of either library on any broker."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import notes

library: Any = importlib.import_module(os.environ.get("TEST_LIBRARY", "celery"))
Reject: Any = importlib.import_module(f"{library.__name__}.exceptions").Reject

app = library.Celery(
    "carried", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"], set_as_current=False
)
app.conf.update(json.loads(os.environ.get("TEST_SETTINGS", "{}")))
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_publish_retry=False,
)
if os.environ.get("TEST_TRANSPORT"):
    app.conf.broker_transport = os.environ["TEST_TRANSPORT"]


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(acks_late=True)
def add_late(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def length(text: str) -> int:
    return len(text)


@app.task(bind=True)
def retried(self: Any, name: str, times: int = 2) -> int:
    notes.note(name, retries=self.request.retries, redelivered=bool(self.request.delivery_info.get("redelivered")))
    if self.request.retries < times:
        raise self.retry(countdown=0.01, max_retries=times)
    return int(self.request.retries)


@app.task(bind=True, acks_late=True)
def requeued(self: Any, name: str) -> str:
    notes.note(name, redelivered=bool(self.request.delivery_info.get("redelivered")))
    if len(notes.notes(name)) < 2:
        raise Reject("once more", requeue=True)
    return "second time"


@app.task(acks_late=True)
def rejected(name: str) -> None:
    notes.note(name)
    raise Reject("no use", requeue=False)


@app.task
def noted(name: str, label: Any = None) -> Any:
    notes.note(name, label=label, at=time.time())
    return label


@app.task
def gated(name: str, gate: str, label: Any = None) -> Any:
    notes.note(name, label=label)
    notes.wait_at_gate(gate)
    return label


@app.task(acks_late=True)
def gated_late(name: str, gate: str) -> None:
    notes.note(name)
    notes.wait_at_gate(gate)


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_once(name: str) -> str:
    notes.note(name)
    if len(notes.notes(name)) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(bind=True)
def delivery(self: Any) -> dict[str, Any]:
    information = self.request.delivery_info
    return {
        "routing_key": information["routing_key"],
        "redelivered": bool(information.get("redelivered")),
        "id": self.request.id,
        "now": datetime.now(timezone.utc).isoformat(),
    }


@app.task
def surroundings() -> dict[str, Any]:
    """Threads and sockets of the process that runs tasks."""
    descriptors = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    return {
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "sockets": sorted(name for name in descriptors if re.match(r"socket:", name)),
        "parent": os.getppid(),
    }

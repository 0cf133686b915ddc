"""An application of our own whose settings the test chooses, with tasks that show what they do."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

from kombu import Exchange, Queue
from kombu.common import Broadcast

from pyworker import Celery, signals

app = Celery("own_settings", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.update(json.loads(os.environ.get("TEST_SETTINGS", "{}")))
if os.environ.get("TEST_BROADCAST"):
    app.conf.task_queues = [Queue("celery", Exchange("celery"), "celery"), Broadcast(os.environ["TEST_BROADCAST"])]
hoard: list[bytes] = []


def note(name: str, **fields: Any) -> None:
    """Append a line to the test's journal."""
    with open(os.environ["TEST_JOURNAL"], "a") as journal:
        journal.write(json.dumps({"name": name, **fields}) + "\n")


@app.on_after_fork.connect
def forked(**_: Any) -> None:
    note("forked", process=os.getpid())


@signals.task_received.connect
def received(request: Any, **_: Any) -> None:
    note("received", task=request.name, id=request.id, process=os.getpid())


@app.task
def swell(mebibytes: int) -> int:
    """Keep some memory and return the process's id."""
    hoard.append(os.urandom(mebibytes << 20))
    return os.getpid()


@app.task
def heard(number: int) -> None:
    """Say that a broadcast came."""
    note("heard", number=number)


@app.task(bind=True, acks_late=True)
def once(self: Any) -> int:
    """Say that it runs; the worker is killed meanwhile, after the first run's end."""
    note("once", redelivered=self.request.delivery_info["redelivered"])
    return os.getpid()


@app.task(bind=True, retry_on_worker_lost=True, default_retry_delay=0)
def dies_once(self: Any) -> int:
    """Kill its process the first time."""
    if not self.request.retries:
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()
    return int(self.request.retries)

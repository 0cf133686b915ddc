"""The tasks that monitoring is compared with, on either library: ``TEST_LIBRARY`` says whose.

The names are those of ``tasks.py``, so that one test drives an application of each kind. Custom remote control
commands come along.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
from typing import Any

import journal
import redis.connection
import redis.utils

import pyworker  # noqa: F401 - makes sqlite:// known to kombu

if os.environ.get("TEST_REDIS_PROTOCOL"):
    # What redis-py speaks by itself: 2 before its version 8, 3 since.
    redis.utils.DEFAULT_RESP_VERSION = redis.connection.DEFAULT_RESP_VERSION = int(os.environ["TEST_REDIS_PROTOCOL"])
LIBRARY = os.environ.get("TEST_LIBRARY", "celery")
library: Any = importlib.import_module(LIBRARY)
exceptions: Any = importlib.import_module(f"{LIBRARY}.exceptions")
app: Any = library.Celery("tasks", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True, timezone="UTC")
app.conf.update(json.loads(os.environ.get("TEST_APP_SETTINGS", "{}")))


def named(name: str, **options: Any) -> Any:
    """A task of this application alone."""
    return app.task(name=f"tasks.{name}", shared=False, **options)


@named("add")
def add(x: int, y: int) -> int:
    return x + y


@named("mul")
def mul(x: int, y: int) -> int:
    return x * y


@named("show")
def show(value: Any) -> str:
    return repr(value)


@named("raising")
def raising(text: str = "I am raised") -> None:
    raise ValueError(text)


@named("ignored")
def ignored() -> None:
    raise exceptions.Ignore


@named("rejected", acks_late=True)
def rejected(journal_name: str) -> None:
    journal.record(journal_name)
    raise exceptions.Reject("no use", requeue=False)


@named("retry_without_exception", bind=True, max_retries=2, default_retry_delay=0.01)
def retry_without_exception(self: Any) -> None:
    raise self.retry()


@named("retry_at_once", bind=True, max_retries=2, default_retry_delay=0)
def retry_at_once(self: Any) -> None:
    raise self.retry()


@named("gated", bind=True)
def gated(self: Any, gate: str, label: Any = None) -> Any:
    journal.stamp(gate, "start", label=label, id=self.request.id)
    journal.wait_at_gate(gate)
    return label


@named("announcing", bind=True)
def announcing(self: Any, percent: int) -> None:
    """Send an event of the application's own."""
    self.send_event("task-progress", percent=percent)


@named("kill_own_process")
def kill_own_process(journal_name: str) -> None:
    journal.record(journal_name)
    os.kill(os.getpid(), signal.SIGKILL)


panel: Any = importlib.import_module("celery.worker.control" if LIBRARY == "celery" else "pyworker.worker.panel")


@panel.inspect_command(args=[("word", str)], signature="<word>")
def echo_word(state: Any, word: str = "") -> dict[str, Any]:
    """Say a word back."""
    return {"ok": word, "main": state.app.main, "hostname": state.hostname}


@panel.control_command(args=[("number", int)], signature="<number>", alias="also_known_as")
def set_number(state: Any, number: int = 0) -> dict[str, Any]:
    """Change the application."""
    before = getattr(state.app, "number", None)
    state.app.number = number
    return {"ok": [before, number]}


@panel.control_command()
def failing_command(state: Any) -> None:
    raise LookupError("not here")

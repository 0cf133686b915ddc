"""The tasks of the conformance suite: what they do can be seen in files and decided by files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyworker import Celery
from pyworker.exceptions import Reject

QUEUE = "conforming"
_LONGEST_HOLD_S = 120.0


def write_line(path: str, line: str) -> None:
    """Add a line to a file, whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def wait_for_gate(path: str) -> None:
    """Return when a file is there."""
    end = time.monotonic() + _LONGEST_HOLD_S
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened {path}")
        time.sleep(0.002)


def make(broker: str, backend: str, **settings: Any) -> SimpleNamespace:
    """Define the application."""
    app = Celery("conforming", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_default_queue=QUEUE,
        task_publish_retry=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        **settings,
    )

    @app.task(name="conforming.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="conforming.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="conforming.fail", shared=False)
    def fail(text: str) -> None:
        raise ValueError(text)

    @app.task(name="conforming.moment", shared=False)
    def moment() -> float:
        return time.time()

    @app.task(name="conforming.note", shared=False, ignore_result=True)
    def note(path: str, line: str) -> None:
        write_line(path, line)

    @app.task(name="conforming.held", shared=False, bind=True)
    def held(self: Any, path: str, gate: str) -> str:
        self.update_state(state="PROGRESS", meta={"done": 50})
        write_line(path, "begun")
        wait_for_gate(gate)
        return "held"

    @app.task(name="conforming.held_late", shared=False, acks_late=True)
    def held_late(path: str, gate: str) -> str:
        write_line(path, "begun")
        wait_for_gate(gate)
        return "held"

    @app.task(name="conforming.rejecting", shared=False, bind=True, acks_late=True)
    def rejecting(self: Any, path: str, requeue: bool) -> None:
        redelivered = bool(self.request.delivery_info.get("redelivered"))
        write_line(path, "again" if redelivered else "first")
        if not redelivered:
            raise Reject("not me", requeue=requeue)

    return SimpleNamespace(
        app=app, add=add, total=total, fail=fail, moment=moment, note=note, held=held, held_late=held_late,
        rejecting=rejecting,
    )  # fmt: skip


if "TEST_BROKER_URL" in os.environ:
    app = make(
        os.environ["TEST_BROKER_URL"],
        os.environ["TEST_RESULT_BACKEND"],
        broker_transport_options={"visibility_timeout": float(os.environ.get("TEST_VISIBILITY_TIMEOUT", "3600"))},
    ).app

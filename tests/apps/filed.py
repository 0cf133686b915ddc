"""The same application on either library, with its broker and results wherever the environment says."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pyworker  # noqa: F401 - makes sqlite:// known to kombu

library: Any = import_module(os.environ.get("TEST_LIBRARY", "pyworker"))
app = library.Celery(
    "filed", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"], set_as_current=False
)
app.conf.update(broker_connection_retry_on_startup=True, task_default_queue="filed")


@app.task(name="filed.add", shared=False)
def add(x: int, y: int) -> int:
    """Return a result."""
    return x + y


@app.task(name="filed.total", shared=False)
def total(numbers: list[int]) -> int:
    """Sum a group's results."""
    return sum(numbers)


@app.task(name="filed.fail", shared=False)
def fail(text: str) -> None:
    """Fail."""
    raise ValueError(text)


@app.task(name="filed.note", shared=False, acks_late=True, ignore_result=True)
def note(path: str, line: str) -> None:
    """Write that this ran, whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)

"""Tasks as a user of Celery writes them; nothing here knows about pyworker.

``pyworker -A examples.demo_app.tasks worker`` and ``celery -A examples.demo_app.tasks worker`` both run it.
"""

from __future__ import annotations

import os

from celery import Celery

app = Celery("demo", broker=os.environ["DEMO_BROKER_URL"], backend=os.environ["DEMO_RESULT_URL"])
app.conf.update(broker_connection_retry_on_startup=True, task_default_queue="demo")


class NotYet(Exception):
    """The service that a task needs is not ready."""


@app.task
def add(x: int, y: int) -> int:
    """Return a result."""
    return x + y


@app.task
def multiply(x: int, y: int) -> int:
    """Return a result, for chains."""
    return x * y


@app.task(bind=True, autoretry_for=(NotYet,), max_retries=3, default_retry_delay=0)
def flaky(self, succeed_at: int) -> str:
    """Fail until the given attempt."""
    attempt = self.request.retries + 1
    if attempt < succeed_at:
        raise NotYet(f"attempt {attempt}")
    return f"done at attempt {attempt}"


@app.task
def fail(text: str) -> None:
    """Fail for good."""
    raise ValueError(text)


@app.task(ignore_result=True)
def forget(number: int) -> int:
    """Run without a stored result."""
    return number


@app.task
def total(numbers: list[int]) -> int:
    """Add up what a group returned."""
    return sum(numbers)

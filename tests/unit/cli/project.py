"""A stock Celery application for the command line's tests; connects to nothing."""

from __future__ import annotations

from celery import Celery

app = Celery("project", broker="redis://localhost:1/0")


@app.task
def add(x: int, y: int) -> int:
    return x + y

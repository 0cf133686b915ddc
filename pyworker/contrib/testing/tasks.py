"""The task that says that a worker works; every app has it."""

from __future__ import annotations

from pyworker.app.sharing import shared_task

__all__ = ["ping"]


@shared_task(name="celery.ping")
def ping() -> str:
    """Return ``pong``."""
    return "pong"

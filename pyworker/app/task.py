"""Tasks and their requests, under the name of Celery's module."""

from __future__ import annotations

from pyworker.request import Context
from pyworker.task import Task

__all__ = ["Context", "Task"]

"""The tasks of an app, under the name of Celery's module."""

from __future__ import annotations

from pyworker.registry import TaskRegistry

__all__ = ["TaskRegistry"]

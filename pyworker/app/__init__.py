"""Applications: the class, shared tasks, and who is current."""

from __future__ import annotations

from pyworker.app.base import Celery
from pyworker.app.sharing import app_or_default, shared_task

__all__ = ["Celery", "app_or_default", "shared_task"]

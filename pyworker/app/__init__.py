"""Applications: the class, shared tasks, and who is current."""

from __future__ import annotations

from pyworker.app.base import Celery
from pyworker.app.sharing import shared_task
from pyworker.current import app_or_default

__all__ = ["Celery", "app_or_default", "shared_task"]

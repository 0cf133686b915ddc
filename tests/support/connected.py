"""Clients and workers of ``tests/apps/connected.py``, whose settings are the tests' subject."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

from support.kinds import Kind
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKER = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
STOCK = Kind("stock", (sys.executable, "-m", "celery"), "fast")
#: Both kinds of application.
LIBRARIES = ("pyworker", "celery")


def connected_client(library: str, settings: Mapping[str, Any]) -> Any:
    """Return the application's names as a producer sees them; ``app`` must be closed."""
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    module = importlib.import_module("connected")
    return module.make(importlib.import_module(library), dict(settings))


def connected_worker(
    library: str, settings: Mapping[str, Any], *, kind: Kind = WORKER, environment: Mapping[str, str] | None = None
) -> WorkerProcess:
    """Return a worker of the application, not started."""
    wanted = {"TEST_SETTINGS": json.dumps(settings), "TEST_LIBRARY": library, **(environment or {})}
    return WorkerProcess(kind, "connected", broker=str(settings["broker_url"]), environment=wanted)

"""A worker runtime for Celery task definitions with a native core, and the task API to go with it."""

from __future__ import annotations

from pyworker import signals, states
from pyworker.app import Celery, shared_task
from pyworker.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from pyworker.compat import install
from pyworker.current import current_app, current_task, get_current_task
from pyworker.identifiers import uuid
from pyworker.result import AsyncResult, GroupResult, ResultSet
from pyworker.task import Task
from pyworker.transport.registration import register as _register_transport
from pyworker.version import __version__

__all__ = [
    "AsyncResult",
    "Celery",
    "GroupResult",
    "ResultSet",
    "Signature",
    "Task",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "get_current_task",
    "group",
    "install",
    "maybe_signature",
    "shared_task",
    "signals",
    "signature",
    "states",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]

# So that an application of any library reaches sqlite:// URLs; brings neither kombu nor SQLite.
_register_transport()

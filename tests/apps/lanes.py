"""Puts an app into the lane under test, the way the libraries that cause that lane do it.

fast: nothing. receivers: receivers of prerun and postrun, as Django's fixup connects them.
library: ``build_tracer`` patched with a wrapper, as sentry-sdk does. parent: a receiver of ``task_received``.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from celery import signals
from celery.app import trace


def ignore(**_: Any) -> None:
    """A receiver that only observes."""


def _patch_build_tracer() -> None:
    original = trace.build_tracer
    if getattr(original, "is_test_wrapper", False):
        return

    @functools.wraps(original)
    def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Any:
        return original(name, task, *args, **kwargs)

    build_tracer.is_test_wrapper = True  # type: ignore[attr-defined]
    trace.build_tracer = build_tracer


def enter_lane() -> None:
    """Do what the environment's lane needs; producers (and the fast lane) need nothing."""
    lane = os.environ.get("TEST_LANE", "fast")
    if lane == "receivers":
        signals.task_prerun.connect(ignore, weak=False)
        signals.task_postrun.connect(ignore, weak=False)
    elif lane == "library":
        _patch_build_tracer()
    elif lane == "parent":
        signals.task_received.connect(ignore, weak=False)
    elif lane not in {"fast", "producer"}:
        raise ValueError(f"no lane {lane!r}")


def new_app_settings() -> dict[str, str]:
    """Broker and backend of the test, as keyword arguments of ``Celery``."""
    return {"broker": os.environ["TEST_BROKER_URL"], "backend": os.environ["TEST_RESULT_BACKEND"]}

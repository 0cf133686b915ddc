"""Settings and reports, under the name of Celery's module."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pyworker.conf import Settings

if TYPE_CHECKING:
    from pyworker.app.base import Celery

__all__ = ["Settings", "bugreport"]

_PACKAGES = ("pyworker", "kombu", "redis", "amqp", "celery", "billiard", "orjson")


def bugreport(app: Celery) -> str:
    """Return what a bug report should have: versions, platform and settings without secrets."""
    versions = " ".join(f"{name}:{_version(name)}" for name in _PACKAGES)
    return (
        f"software -> {versions} py:{platform.python_version()}\n"
        f"platform -> system:{platform.system()} arch:{platform.machine()} kernel:{platform.release()} "
        f"imp:{platform.python_implementation()}\n"
        f"settings -> transport:{str(app.conf.broker_url).partition('://')[0]} results:{app.backend.as_uri()}\n\n"
        f"{app.conf.humanize()}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"

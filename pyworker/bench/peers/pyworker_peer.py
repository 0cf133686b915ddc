"""pyworker with an app of its own library: our client, our worker, no celery."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pyworker
import pyworker.signals
from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings


class PyworkerPeer:
    """Our worker, fed by our client."""

    def __init__(self, name: str, payload: str) -> None:
        self.name = name
        self._payload = payload

    def version(self) -> str:
        """Return our version."""
        return distribution_version("pyworker") or "source tree"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command with default prefetch."""
        return [
            sys.executable, "-m", "pyworker", "-A", "pyworker.bench.peers.pyworker_app",
            "worker", "-c", str(concurrency), "-P", pool, "-l", loglevel, "-n", "pyworker@%h",
        ]  # fmt: skip

    def connect(self, settings: AppSettings) -> Client:
        """Return our client."""
        return CeleryClient(
            make_app(pyworker.Celery, pyworker.signals, settings), pyworker.group, settings, self._payload
        )

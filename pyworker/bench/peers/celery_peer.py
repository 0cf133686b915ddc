"""Stock Celery: its client, and either its own worker or ours behind it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import celery
import celery.signals

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings


class CeleryPeer:
    """A worker started as ``python -m PROGRAM -A app worker``, fed by stock Celery's client."""

    def __init__(self, name: str, program: str, payload: str) -> None:
        self.name = name
        self._program = program
        self._payload = payload

    def version(self) -> str:
        """Return the version of the worker's distribution."""
        return distribution_version(self._program) or "source tree"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command with default prefetch."""
        return [
            sys.executable, "-m", self._program, "-A", "pyworker.bench.peers.celery_app",
            "worker", "-c", str(concurrency), "-P", pool, "-l", loglevel, "-n", f"{self._program}@%h",
        ]  # fmt: skip

    def connect(self, settings: AppSettings) -> Client:
        """Return stock Celery's client."""
        return CeleryClient(make_app(celery.Celery, celery.signals, settings), celery.group, settings, self._payload)

"""The bench's application on Huey; the consumer imports this module."""

from __future__ import annotations

from pyworker.bench.peers.huey_peer import make_task
from pyworker.bench.settings import AppSettings

huey, task = make_task(AppSettings.from_environment())

"""The bench's application on taskiq; the worker imports this module."""

from __future__ import annotations

from pyworker.bench.peers.taskiq_peer import make_broker
from pyworker.bench.settings import AppSettings

broker, task = make_broker(AppSettings.from_environment())

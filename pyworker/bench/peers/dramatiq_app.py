"""The bench's application on Dramatiq; the worker imports this module."""

from __future__ import annotations

from pyworker.bench.peers.dramatiq_peer import make_actor
from pyworker.bench.settings import AppSettings

actor = make_actor(AppSettings.from_environment())
broker = actor.broker

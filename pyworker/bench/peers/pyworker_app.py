"""The bench's application on our own ``Celery`` class; ``-A pyworker.bench.peers.pyworker_app``."""

from __future__ import annotations

import pyworker
import pyworker.signals
from pyworker.bench.peers.celery_protocol import make_app
from pyworker.bench.settings import AppSettings

app = make_app(pyworker.Celery, pyworker.signals, AppSettings.from_environment())

"""The bench's application on ``celery.Celery``, as a user would write it; ``-A pyworker.bench.peers.celery_app``."""

from __future__ import annotations

import celery
import celery.signals

from pyworker.bench.peers.celery_protocol import make_app
from pyworker.bench.settings import AppSettings

app = make_app(celery.Celery, celery.signals, AppSettings.from_environment())

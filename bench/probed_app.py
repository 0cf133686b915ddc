"""The application of the probes' measurement: a task that does nothing, and one that blocks its child."""

from __future__ import annotations

import os
import threading

from celery import Celery

app = Celery("probed", broker=os.environ["PROBED_BROKER_URL"])
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task(ignore_result=True)
def nothing() -> None:
    """Return at once."""


@app.task(ignore_result=True)
def block() -> None:
    """Hold the child until its process is ended."""
    threading.Event().wait()

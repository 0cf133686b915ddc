"""An app whose children end while they start, as a broken C extension makes them, until a file says otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lanes
from celery import Celery, signals

app = Celery("stillborn", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True)
lanes.enter_lane()


@signals.worker_process_init.connect
def end_early(**_: Any) -> None:
    healed = os.environ.get("TEST_HEALED_FILE")
    if healed is None or not Path(healed).exists():
        os._exit(3)


@app.task
def add(x: int, y: int) -> int:
    return x + y

"""An app whose children come into the world as files in a directory say: held up, killed, or slow to initialise.

``hold`` stops a new process between its fork and its first word to the engine, ``die`` (taken away by the process that
obeys it) ends it there, ``dawdle`` keeps it in its ``worker_process_init``. Who waits leaves ``held-PID`` or
``dawdling-PID``.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

import lanes
from celery import Celery, signals

app = Celery("newborn", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True)
lanes.enter_lane()

_directory = Path(os.environ.get("TEST_BIRTH_DIRECTORY", "/nonexistent"))
_enable_collector = gc.enable


def _wait_while(order: str, trace: str) -> None:
    pause = threading.Event()
    while (_directory / order).exists():
        (_directory / f"{trace}-{os.getpid()}").touch()
        pause.wait(0.01)


def _enable_in_newborn() -> None:
    """The first thing that a new child does with Python's own library, before it says who it is."""
    _wait_while("hold", "held")
    try:
        (_directory / "die").unlink()
    except OSError:
        _enable_collector()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


gc.enable = _enable_in_newborn


@signals.worker_process_init.connect
def dawdle(**_: Any) -> None:
    _wait_while("dawdle", "dawdling")


@app.task
def process_id() -> int:
    return os.getpid()

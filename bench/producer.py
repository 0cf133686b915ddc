"""One of several producers on one file: ``python -m bench.producer FIRST STOP BATCH``; see bench/shared_file.py."""

from __future__ import annotations

import sys
import time
from typing import Any

import pyworker
import pyworker.signals
from pyworker.bench.peers.celery_protocol import TASK_NAME, make_app
from pyworker.bench.settings import AppSettings


def task_id(index: int) -> str:
    """Return the id under which task ``index`` is sent, so that others can look its result up."""
    return f"00000000-0000-4000-8000-{index:012x}"


def _send(app: Any, indexes: range) -> None:
    task = app.tasks[TASK_NAME]
    if len(indexes) == 1:
        task.apply_async(args=(indexes[0],), task_id=task_id(indexes[0]))
        return
    pyworker.group(task.s(index).set(task_id=task_id(index)) for index in indexes).apply_async()


def main(first: int, stop: int, batch: int) -> None:
    """Say that we are ready, wait for a line, send everything, say how many seconds it took."""
    app = make_app(pyworker.Celery, pyworker.signals, AppSettings.from_environment())
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    for start in range(first, stop, batch):
        _send(app, range(start, min(start + batch, stop)))
    print(time.monotonic() - begun, flush=True)
    app.close()


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))

"""Cameras for either library, which write what they are shown to ``TEST_PICTURES``."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

LIBRARY = os.environ.get("TEST_LIBRARY", "celery")
snapshot: Any = importlib.import_module(f"{LIBRARY}.events.snapshot")


class Camera(snapshot.Polaroid):  # type: ignore[misc]
    """Writes a line for each picture."""

    clear_after = True

    def on_shutter(self, state: Any) -> None:
        picture = {
            "tasks": {key: [task.name, task.state] for key, task in state.itertasks()},
            "workers": sorted(worker.hostname for worker in state.workers.values()),
            "events": state.event_count,
            "pid": os.getpid(),
            "freq": self.freq,
            "app": self.app.main,
        }
        with open(os.environ["TEST_PICTURES"], "a") as file:
            file.write(json.dumps(picture) + "\n")

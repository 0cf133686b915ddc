"""One small application for both libraries, its settings wholly from the environment (``TEST_SETTINGS``, JSON)."""

from __future__ import annotations

import importlib
import json
import os
import time
from types import SimpleNamespace
from typing import Any

import redis


class StepProvider(redis.CredentialProvider):
    """Gives the password that a file holds at the moment, as tokens are given that expire."""

    def get_credentials(self) -> tuple[str]:
        with open(os.environ["TEST_PASSWORD_FILE"]) as file:
            return (file.read(),)


def make(library: Any, settings: dict[str, Any]) -> SimpleNamespace:
    """Define the application with a library: ``pyworker`` or ``celery``."""
    app = library.Celery("connected", set_as_current=False)
    app.conf.update({"broker_connection_retry_on_startup": True, **settings})
    define = {"shared": False}

    @app.task(name="connected.add", **define)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="connected.note", acks_late=True, **define)
    def note(number: int) -> int:
        with redis.Redis.from_url(os.environ["TEST_JOURNAL_URL"]) as client:
            client.rpush("notes", f"{number} {time.time()}")
        return number

    return SimpleNamespace(app=app, add=add, note=note)


if "TEST_SETTINGS" in os.environ:
    app = make(importlib.import_module(os.environ["TEST_LIBRARY"]), json.loads(os.environ["TEST_SETTINGS"])).app

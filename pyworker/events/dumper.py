"""Writes events line by line as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TextIO

from pyworker.events.bounded import RecentlyUsed

_WORKER_EVENTS = {"worker-offline": "shutdown", "worker-online": "started", "worker-heartbeat": "heartbeat"}
#: How many tasks' names are kept for the events that do not carry them.
_TASKS_KEPT = 4095


class Dumper:
    """Turns events into lines.

    Args:
        out: the stream that lines are written to, each at once.
        say: writes a line in place of the stream.
    """

    def __init__(self, out: TextIO | None = None, *, say: Callable[[str], object] | None = None) -> None:
        self._out = out
        self._say = say
        self._tasks: RecentlyUsed[str, str] = RecentlyUsed(_TASKS_KEPT)

    def say(self, msg: str) -> None:
        """Write a line."""
        if self._say is not None:
            self._say(msg)
        else:
            print(msg, file=self._out or sys.stdout, flush=True)

    def on_event(self, ev: dict[str, Any]) -> None:
        """Write an event."""
        fields = dict(ev)
        moment = datetime.fromtimestamp(fields.pop("timestamp"), timezone.utc)
        kind = str(fields.pop("type")).lower()
        node = fields.pop("hostname", "?")
        words = _WORKER_EVENTS.get(kind) or kind.replace("-", " ")
        task = f" {self._task(kind, fields)}" if kind.startswith("task-") else ""
        listed = ", ".join(f"{name}={fields[name]}" for name in sorted(fields))
        self.say(f"{node} [{moment}] {words}{':' if listed else ''}{task} {listed}")

    def _task(self, kind: str, fields: dict[str, Any]) -> str:
        task_id = fields.pop("uuid")
        if kind in ("task-received", "task-sent"):
            self._tasks[task_id] = (
                f"{fields.pop('name')}({task_id}) args={fields.pop('args')} kwargs={fields.pop('kwargs')}"
            )
        return self._tasks.get(task_id, "")

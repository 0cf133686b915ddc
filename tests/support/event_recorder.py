"""Receives events as Flower and ``celery events`` do."""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from support.pair import plain
from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

#: Fields whose values differ by nature; that they are there, and their types, is compared.
UNSTABLE = frozenset((
    "timestamp", "clock", "pid", "runtime", "local_received", "uuid", "root_id", "active", "processed", "loadavg",
))  # fmt: skip
_DEADLINE_S = 60.0


class Recorder:
    """Receives the events of an application.

    Args:
        app: an application of either library; its own receiver is used.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.events: list[dict[str, Any]] = []
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="event recorder")

    def _run(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self.events.append})
            with receiver.consumer_context() as (drained, _channel, _consumers):
                while not self._is_stopping:
                    try:
                        drained.drain_events(timeout=0.5)
                    except TimeoutError:
                        continue

    def __enter__(self) -> Self:
        self._thread.start()
        # kombu subscribes with its first read: an event of our own shows that it did.
        probe = f"probe-{secrets.token_hex(4)}"

        def arrives() -> bool:
            with self._app.events.default_dispatcher() as dispatcher:
                dispatcher.send(probe)
            return bool(self.of_type(probe))

        eventually(arrives, deadline_s=_DEADLINE_S, what="the recorder receives")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping = True
        self._thread.join(10)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a type so far."""
        return [event for event in list(self.events) if event["type"] == kind]

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the first event of a type with these fields, waiting for it."""

        def found() -> list[dict[str, Any]]:
            events = self.of_type(kind)
            return [each for each in events if all(each.get(name) == value for name, value in fields.items())]

        return eventually(found, deadline_s=_DEADLINE_S, what=f"event {kind} {fields}")[0]

    def of_tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Return each task's events in the order of their clocks."""
        tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in list(self.events):
            if "uuid" in event:
                tasks[event["uuid"]].append(event)
        return {task_id: sorted(events, key=lambda event: event["clock"]) for task_id, events in tasks.items()}

    def types(self, task_id: str) -> list[str]:
        """Return the types of a task's events in the order of their clocks."""
        return [event["type"] for event in self.of_tasks().get(task_id, [])]


def view(event: dict[str, Any]) -> dict[str, Any]:
    """Return what two workers' events of the same thing share."""
    seen = {key: type(value).__name__ if key in UNSTABLE else plain(value) for key, value in event.items()}
    if seen.get("traceback"):
        # The frames of the tracer differ; the exception's own line counts.
        seen["traceback"] = seen["traceback"].strip().splitlines()[-1]
    return seen

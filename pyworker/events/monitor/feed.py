"""Receives events in a thread of its own and draws the picture from them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworker.operations.protocol import Operations

_STEP_S = 0.5
_RETRY_S = 2.0


class Feed:
    """The state that events draw. ``start`` and ``stop`` are idempotent.

    Args:
        operations: the application under its operator's hands.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.state: Any = operations.events.State()
        #: Events by worker and type.
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Counts every event, so that a viewer knows whether to draw anew.
        self.version = 0
        #: What keeps the connection from being there, empty while it is.
        self.trouble = "connecting"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to receive."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pyworker-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; waits for the thread for a moment."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(4 * _STEP_S)

    def take(self, event: dict[str, Any]) -> None:
        """Take in an event."""
        try:
            self.state.event(event)
        except (KeyError, TypeError) as error:
            # Anybody may send anything; one event without its fields must not end the monitor.
            self.trouble = f"an event of type {event.get('type')!r} cannot be read: {error!r}"
        self.counts[str(event.get("hostname")), str(event.get("type"))] += 1
        self.version += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._operations.reading_connection() as connection:
                    self._receive(connection)
            except Exception as error:  # whatever the transport raises, the feed comes back
                self.trouble = f"no connection to the broker: {error}"
                self.version += 1
                self._stopping.wait(_RETRY_S)

    def _receive(self, connection: Any) -> None:
        receiver = self._operations.events.Receiver(connection, handlers={"*": self.take})
        with receiver.consumer_context(wakeup=True) as (drained, _channel, _consumers):
            self.trouble = ""
            self.version += 1
            while not self._stopping.is_set():
                try:
                    drained.drain_events(timeout=_STEP_S)
                except TimeoutError:
                    drained.heartbeat_check()

"""What an application may do beside running tasks: events, and what happens when the broker goes and comes back.

An optional capability of a :class:`pyworker.worker.protocol.WorkerApp`; the runner asks whether it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pyworker.worker.broker_line import BrokerLine


@runtime_checkable
class OperatedApp(Protocol):
    """An application that takes part in monitoring."""

    #: The node's connection beside the engine's, which the application's own parts use too.
    line: BrokerLine

    def before_consuming(self) -> None:
        """Parent, main thread: the engine exists and consumes nothing yet (mingle). Must not raise."""

    def publish_events(self, body: bytes) -> None:
        """Parent: publish a JSON list of task events that the engine built; must not block."""

    def on_connection_lost(self) -> None:
        """Parent: the broker connection is gone after it was there."""

    def on_reconnected(self) -> None:
        """Parent: the broker is back."""

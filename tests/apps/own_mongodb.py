"""kombu's MongoDB transport without its fan-out, for servers that have no capped collections."""

from __future__ import annotations

from typing import Any

from kombu.transport import virtual
from kombu.transport.mongodb import Channel, Transport


class PlainChannel(Channel):
    """Queues alone."""

    supports_fanout = False

    def _create_broadcast(self, database: Any) -> None:
        """Broadcasts are what capped collections are for."""


class PlainMongodb(Transport):
    """MongoDB as kombu speaks it, less its broadcasts."""

    Channel = PlainChannel
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(["direct", "topic"]))

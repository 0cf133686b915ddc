"""Who else listens: asked before a node waits a second for answers of others."""

from __future__ import annotations

from typing import Any


def count_neighbours(connection: Any, exchange_name: str, hostname: str) -> int | None:
    """Return how many other nodes have a mailbox, as far as the transport can tell; ``None`` if it cannot.

    Args:
        connection: an open ``kombu.Connection``.
        exchange_name: the mailboxes' exchange.
        hostname: this node's name; its own mailbox does not count.
    """
    channel = connection.default_channel
    get_table = getattr(channel, "get_table", None)
    if get_table is None or not getattr(channel, "tells_subscribers", True):
        return None
    try:
        table = get_table(exchange_name)
    except Exception:
        # kombu raises when there is no binding at all.
        return 0
    return sum(1 for _, _, queue in table if not queue.startswith(f"{hostname}."))

"""How many other nodes there are to be asked at the start, so that nobody waits for answers that never come."""

from __future__ import annotations

from typing import Any


def count_mailboxes(channel: Any, exchange: str, hostname: str) -> int | None:
    """Return how many other nodes have a mailbox, as far as the transport can tell.

    Args:
        channel: a channel of kombu's.
        exchange: the mailboxes' exchange.
        hostname: the node's own name, whose mailbox does not count.

    Returns:
        ``None`` if the transport cannot tell.
    """
    listeners, get_table = (getattr(channel, name, None) for name in ("fanout_listeners", "get_table"))
    if listeners is not None:
        # The SQLite file knows who lives.
        queues = listeners(exchange)
    elif get_table is not None:
        try:
            queues = [queue for _, _, queue in get_table(exchange)]
        except Exception:
            # kombu raises when there is no binding at all.
            return 0
    else:
        return None
    return sum(1 for queue in queues if not queue.startswith(f"{hostname}."))

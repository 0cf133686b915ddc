"""One event, and the exchange that events go through."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from kombu import Exchange

#: Name of the exchange unless ``event_exchange`` says another.
EVENT_EXCHANGE_NAME = "celeryev"
#: Transports whose topic exchanges do not reach everybody: there events are broadcast.
_FANOUT_DRIVERS = frozenset(("redis", "gcpubsub"))

#: The exchange of most transports; :func:`get_exchange` returns that of a connection.
event_exchange = Exchange(EVENT_EXCHANGE_NAME, type="topic")


def Event(type: str, _fields: Any = None, **fields: Any) -> dict[str, Any]:
    """Return an event: a mapping with its type, its time if it brings none, and its fields.

    Args:
        type: ``group-subject``, such as ``task-received``.
        _fields: a mapping of fields; ``fields`` count before it.
        fields: what the event carries.
    """
    event = {**(_fields or {}), **fields}
    event.setdefault("timestamp", time.time())
    event["type"] = type
    return event


def group_from(type: str) -> str:
    """Return the group of an event's type: what is before the first dash."""
    return type.partition("-")[0]


def get_exchange(conn: Any, name: str = EVENT_EXCHANGE_NAME) -> Exchange:
    """Return the exchange as a connection's transport needs it.

    Args:
        conn: a ``kombu.Connection``.
        name: the exchange's name.
    """
    kind = "fanout" if conn.transport.driver_type in _FANOUT_DRIVERS else "topic"
    return Exchange(name, type=kind)


def utc_offset_h() -> float:
    """Return the hours that local time is behind UTC."""
    return (time.altzone if time.localtime().tm_isdst > 0 else time.timezone) / 3600


def anonymous_node_name() -> str:
    """Return the name that a process goes by which is no worker: ``gen<pid>@<host>``."""
    return f"gen{os.getpid()}@{socket.gethostname()}"

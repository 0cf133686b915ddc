"""A broker in a SQLite file, from the settings of an application of either library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyworker.transport.sqlite_file import check_file, priority_steps
from pyworker.transport.sqlite_url import parse_sqlite_url
from pyworker.worker.broker_options import connection_retry, owner_name, reading_order
from pyworker.worker.sqlite_config import SqliteBrokerConfig

_VISIBILITY_TIMEOUT_S = 3600.0


def sqlite_broker(
    conf: Any, url: str, options: Mapping[str, Any], *, hostname: str, queues: tuple[str, ...]
) -> SqliteBrokerConfig:
    """Return the engine's broker settings.

    Args:
        conf: the application's settings; ``broker_connection_*`` count.
        url: the file's URL.
        options: ``broker_transport_options``.
        hostname: the node's name.
        queues: what it consumes.

    Raises:
        ImproperlyConfigured: an option is not supported, or the file is not usable; says which and why.
    """
    address = parse_sqlite_url(url, setting="broker_url", options=options)
    steps = priority_steps(options)
    check_file(address, setting="broker_url")
    order, queues = reading_order(options.get("queue_order_strategy", "round_robin"), queues)
    return SqliteBrokerConfig(
        address=address,
        queues=queues,
        owner=owner_name(hostname),
        priority_steps=steps,
        queue_order=order,
        visibility_timeout_s=float(options.get("visibility_timeout") or _VISIBILITY_TIMEOUT_S),
        retry=connection_retry(conf),
    )

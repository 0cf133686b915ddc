"""The native way of messages into a SQLite file. What is published is on the disk when the call returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.publish.redis import RedisOutlet
from pyworker.publish.retry import PublishRetry
from pyworker.transport.sqlite_file import open_file, priority_steps
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from pyworker.conf import Settings


class SqliteOutlet(RedisOutlet):
    """Puts envelopes into a file; they are the same as on Redis. Safe across threads and forks."""

    def __init__(self, conf: Settings, url: str) -> None:
        options = dict(conf.broker_transport_options or {})
        address = parse_sqlite_url(url, setting="broker_url", options=options)
        self._publisher = open_file(address, setting="broker_url", priority_steps=priority_steps(options))
        self._retry = PublishRetry(conf)

"""Broker URLs as kombu takes them, which knows fewer forms than we do."""

from __future__ import annotations

from typing import Any

from pyworker.transport.redis_url import socket_url
from pyworker.transport.sqlite_url import is_sqlite_url, parse_sqlite_url, url_of


def urls_for_kombu(url: Any) -> Any:
    """Return one or several URLs (a list, or a text with ``;`` between them) as one text of kombu's.

    Raises:
        ImproperlyConfigured: a ``sqlite://`` or ``memory://`` URL is malformed.
    """
    if not url:
        return url
    urls = url if isinstance(url, (list, tuple)) else str(url).split(";")
    return ";".join(_for_kombu(each) for each in urls)


def _for_kombu(url: str) -> str:
    if is_sqlite_url(url):
        # kombu has a memory transport of its own, which is another one.
        return url_of(parse_sqlite_url(url, setting="broker_url"))
    return socket_url(url)

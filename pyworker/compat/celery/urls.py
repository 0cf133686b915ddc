"""A look at the URLs of a Celery application before its library parses them: its errors may show half a password."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import NOT_A_URL

_SETTINGS = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")


def require_urls(conf: Any) -> None:
    """Refuse what is no URL.

    Raises:
        ImproperlyConfigured: names the setting.
    """
    for name in _SETTINGS:
        value = conf.get(name)
        for url in value.split(";") if isinstance(value, str) else ():
            scheme, separator, _ = url.partition("://")
            try:
                # What the library calls a port: it is read when it is asked for.
                _ = urlsplit(url).port if separator else None
            except ValueError:
                if "," not in url:  # several hosts, as MongoDB's and Kafka's have them
                    raise ImproperlyConfigured(f"{name}: the {scheme} URL {NOT_A_URL}") from None

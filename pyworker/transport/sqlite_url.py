"""``sqlite://`` and ``memory://`` URLs as addresses of the native side.

As in SQLAlchemy's and so in Celery's URLs, three slashes begin a path relative to the current folder and four an
absolute one: ``sqlite:///queue.db``, ``sqlite:////var/lib/app/queue.db``. ``memory://`` and ``memory://name`` are
files of this process and its children in the machine's memory, gone when the process that made them ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import without_password
from pyworker.transport.memory_folder import make_memory_folder
from pyworker.worker.sqlite_config import SqliteAddress

#: Schemes that lead to a SQLite file.
SCHEMES = frozenset({"sqlite", "memory"})
_OPTIONS = ("durable", "busy_timeout")
_lock = threading.Lock()
_memory_folder: str | None = None


def parse_sqlite_url(url: str, *, setting: str, options: Mapping[str, Any] | None = None) -> SqliteAddress:
    """Return the address that a URL names.

    Args:
        url: the URL.
        setting: the setting's name, for errors.
        options: transport options; ``durable`` and ``busy_timeout`` (seconds) count here, also in the URL's query.

    Raises:
        ImproperlyConfigured: the URL is malformed; names the setting.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in SCHEMES:
        raise ImproperlyConfigured(f"{setting}: {without_password(url)!r} is no sqlite:// or memory:// URL")
    chosen = {
        **dict(parse_qsl(parts.query)),
        **{key: value for key, value in (options or {}).items() if key in _OPTIONS},
    }
    is_memory = parts.scheme.lower() == "memory"
    return SqliteAddress(
        path=_memory_path(unquote(parts.netloc + parts.path)) if is_memory else _path(parts, setting),
        durable=not is_memory and _flag(chosen.get("durable", True)),
        busy_timeout_s=_seconds(chosen.get("busy_timeout", SqliteAddress.busy_timeout_s), setting),
    )


def is_sqlite_url(url: object) -> bool:
    """Whether a URL leads to a SQLite file."""
    return isinstance(url, str) and url.partition("://")[0].lower() in SCHEMES


def url_of(address: SqliteAddress) -> str:
    """Return the ``sqlite://`` URL of an address."""
    query = "" if address.durable else "?durable=0"
    return f"sqlite:///{quote(address.path)}{query}"


def _path(parts: Any, setting: str) -> str:
    if parts.netloc:
        host = without_password(parts.netloc)
        raise ImproperlyConfigured(
            f"{setting}: a SQLite file has no host ({host!r}); sqlite:///relative.db has three slashes, "
            "sqlite:////absolute/path.db four"
        )
    path = unquote(parts.path)[1:]
    if not path or path.endswith("/"):
        raise ImproperlyConfigured(f"{setting}: the URL names no file; write sqlite:///queue.db")
    return os.path.abspath(path)


def _memory_path(name: str) -> str:
    """The file behind a name, in a folder that this process and its later children share."""
    global _memory_folder
    with _lock:
        if _memory_folder is None:
            _memory_folder = make_memory_folder()
    return os.path.join(_memory_folder, f"{quote(name.strip('/'), safe='') or 'default'}.db")


def _flag(value: Any) -> bool:
    return value.lower() not in ("0", "false", "no", "off", "") if isinstance(value, str) else bool(value)


def _seconds(value: Any, setting: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ImproperlyConfigured(f"{setting}: busy_timeout {value!r} is no number of seconds") from None

"""Settings for people: a table without secrets, and the same as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pyworker.redacting import without_password

#: Words in a setting's name that say that its value is nobody's business.
_SECRET_NAME = re.compile("API|TOKEN|KEY|SECRET|PASS|SIGNATURE|DATABASE", re.IGNORECASE)
#: Settings whose names have such a word but whose values are harmless.
_HARMLESS = frozenset({"task_default_routing_key", "cassandra_entry_ttl"})
_MASK = "********"
#: Settings that are URLs whatever they look like: one may be misspelled.
_URLS = frozenset({"broker_url", "broker_read_url", "broker_write_url", "broker_host", "result_backend"})
_WIDTH = 50


def without_secrets(name: str, value: Any) -> Any:
    """Return a setting's value with passwords masked."""
    if isinstance(value, Mapping):
        return {key: without_secrets(str(key), member) for key, member in value.items()}
    if name not in _HARMLESS and _SECRET_NAME.search(name):
        return _MASK
    if isinstance(value, str):
        return without_password(value, _MASK) if "://" in value or name in _URLS else value
    if type(value) in (list, tuple):
        return type(value)(without_secrets(name, member) for member in value)
    return value


def as_text(items: Iterable[tuple[str, Any]]) -> str:
    """Return one line per setting; longer values over several lines."""
    # Not at the top: only people need it.
    from pprint import pformat

    lines = []
    for name, value in items:
        text = pformat(value, width=_WIDTH)
        lines.append(f"{name}: {text}" if "\n" not in text else f"{name}:\n    " + text.replace("\n", "\n    "))
    return "\n".join(lines)

"""Comparing messages of two libraries: ids by their first appearance, times by their kind, no addresses."""

from __future__ import annotations

import copy
import datetime
import re
from typing import Any

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d)?$")
#: A time that stays as it is.
MOMENT = datetime.datetime(2031, 5, 6, 7, 8, 9, 10, tzinfo=datetime.timezone.utc)


def normal(messages: list[dict[str, Any]]) -> list[Any]:
    """Return copies of messages without what differs between two runs of the same library."""
    names: dict[str, str] = {}
    cleaned = []
    for message in copy.deepcopy(messages):
        for options in (message["properties"], *_options_of(message["body"])):
            options.pop("reply_to", None)
        message["properties"].pop("delivery_tag")
        cleaned.append(comparable(message, names))
    return cleaned


def comparable(value: Any, names: dict[str, str]) -> Any:
    """Number the ids by their first appearance, and leave of a time only its kind."""
    if isinstance(value, dict):
        # The names of stamps come in the order of a set.
        return {
            key: comparable(sorted(member) if key == "stamped_headers" and member else member, names)
            for key, member in sorted(value.items())
        }
    if isinstance(value, list):
        return [comparable(member, names) for member in value]
    if isinstance(value, str):
        if _TIME.match(value) and value != MOMENT.isoformat():
            return f"a time with offset {value[-6:]}" if "+" in value else "a time"
        return _ID.sub(lambda match: names.setdefault(match[0], f"id {len(names)}"), value)
    return value


def _options_of(value: Any) -> list[dict[str, Any]]:
    """Every signature's options in a body."""
    if isinstance(value, list):
        return [options for member in value for options in _options_of(member)]
    if isinstance(value, dict):
        own = [value["options"]] if isinstance(value.get("options"), dict) else []
        return own + [options for member in value.values() for options in _options_of(member)]
    return []

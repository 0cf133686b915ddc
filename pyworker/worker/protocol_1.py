"""Task messages of protocol 1 (Celery 3) as protocol 2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from pyworker.exceptions import InvalidTaskError
from pyworker.saferepr import repr_of_arguments, repr_of_keyword_arguments


def protocol_2_of(fields: Any, local: tzinfo) -> tuple[dict[str, Any], list[Any]]:
    """Return headers and body.

    Args:
        fields: the decoded body.
        local: the zone of times in messages that say they are not in UTC.

    Raises:
        InvalidTaskError: the body describes no task.
    """
    if (
        not isinstance(fields, Mapping)
        or not isinstance(fields.get("task"), str)
        or not isinstance(fields.get("id"), str)
    ):
        raise InvalidTaskError("the message has no task name or id")
    args, kwargs = fields.get("args") or [], fields.get("kwargs") or {}
    if not isinstance(args, (list, tuple)):
        raise InvalidTaskError("Task args must be a list or tuple")
    if not isinstance(kwargs, Mapping):
        raise InvalidTaskError("Task keyword arguments is not a mapping")
    zone = timezone.utc if fields.get("utc", True) else local
    headers = {
        "lang": "py",
        "task": fields["task"],
        "id": fields["id"],
        "root_id": fields.get("root_id"),
        "parent_id": fields.get("parent_id"),
        "group": fields.get("taskset"),
        "retries": fields.get("retries", 0),
        "timelimit": list(fields.get("timelimit") or (None, None)),
        "eta": _moment(fields.get("eta"), zone),
        "expires": _moment(fields.get("expires"), zone),
        "argsrepr": repr_of_arguments(tuple(args)),
        "kwargsrepr": repr_of_keyword_arguments(dict(kwargs)),
        "origin": fields.get("origin"),
    }
    followers = {name: fields.get(name) for name in ("callbacks", "errbacks", "chord")}
    return headers, [list(args), dict(kwargs), {**followers, "chain": None}]


def _moment(text: Any, zone: tzinfo) -> str | None:
    """A time with its zone."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError as error:
        raise InvalidTaskError(f"invalid ETA value {text!r}: {error}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).isoformat()

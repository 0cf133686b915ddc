"""Celery's message protocol 2: the headers, properties and body of one call, every option considered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker.identifiers import origin, reply_address
from pyworker.saferepr import repr_of_arguments, repr_of_keyword_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALLEST_SECONDS = -2147483648
#: Options of kombu's producer that say how to publish and are no properties of the message.
_TRANSPORT_OPTIONS = frozenset(
    {
        "add_to_parent", "compression", "confirm_timeout", "connection", "countdown", "declare", "delivery_mode",
        "exchange", "exchange_type", "headers", "immediate", "mandatory", "priority", "producer", "publisher",
        "queue", "retry", "retry_policy", "route_name", "router", "routing_key", "serializer", "timeout",
        "expiration",
    }
)  # fmt: skip


class Embedded(NamedTuple):
    """What follows a task: the third part of the body."""

    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None


class Message(NamedTuple):
    """One message before it is encoded; signal receivers may change its headers and properties."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    #: Arguments, keyword arguments and what is embedded; in protocol 1 (:mod:`pyworker.publish.protocol_1`) a mapping.
    body: Any
    #: The serializer's and the compression's name.
    serializer: str | None = None
    compression: str | None = None
    #: Seconds the broker may keep the message.
    expiration_s: float | None = None
    #: None leaves it out where the broker has messages without one (RabbitMQ).
    priority: int | None = 0


class Clock(NamedTuple):
    """The app's time, for ``countdown`` and ``expires``."""

    now: Callable[[], datetime]


def build(
    name: str,
    task_id: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
    *,
    clock: Clock,
    repr_levels: int = 3,
) -> Message:
    """Build a message; takes what it understands out of ``options``.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: a countdown out of range.
    """
    args, kwargs = args or (), kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError("task args must be a list or tuple")
    if not isinstance(kwargs, Mapping):
        raise TypeError("task keyword arguments must be a mapping")
    take = options.pop
    embedded = Embedded(
        _listed(take("link", None)), _listed(take("link_error", None)), take("chain", None), take("chord", None)
    )
    eta = _moment(take("eta", None), options.get("countdown"), clock)
    expires = take("expires", None)
    expiration_s = None if expires is None else _seconds_until(expires, clock)
    stamped = take("stamped_headers", None)
    stamps = {header: take(header) for header in stamped or ()}
    # These three stay among the options: in Celery they become properties as well.
    argsrepr, kwargsrepr = options.get("argsrepr"), options.get("kwargsrepr")
    headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": take("shadow", None),
        "eta": eta,
        "expires": _expiry(expires, clock),
        "group": take("group_id", None),
        "group_index": take("group_index", None),
        "retries": take("retries", 0),
        "timelimit": [take("time_limit", None), take("soft_time_limit", None)],
        "root_id": take("root_id", None) or task_id,
        "parent_id": take("parent_id", None),
        "argsrepr": repr_of_arguments(args, repr_levels) if argsrepr is None else argsrepr,
        "kwargsrepr": repr_of_keyword_arguments(kwargs, repr_levels) if kwargsrepr is None else kwargsrepr,
        "origin": options.get("origin") or origin(),
        "ignore_result": take("ignore_result", None),
        "replaced_task_nesting": take("replaced_task_nesting", 0),
        "stamped_headers": stamped,
        "stamps": stamps,
    }
    headers.update(options.get("headers") or {})
    properties: dict[str, Any] = {"correlation_id": task_id, "reply_to": take("reply_to", None) or reply_address()}
    properties.update({key: value for key, value in options.items() if key not in _TRANSPORT_OPTIONS})
    return Message(
        headers=headers,
        properties=properties,
        body=(args, kwargs, embedded._asdict()),
        serializer=options.get("serializer"),
        compression=options.get("compression"),
        expiration_s=expiration_s if expiration_s is not None else options.get("expiration"),
        priority=_priority(options),
    )


def _priority(options: Mapping[str, Any]) -> int | None:
    priority = options.get("priority", 0)
    return None if priority is None else int(priority)


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return value if isinstance(value, list) else list(value) if isinstance(value, tuple) else [value]


def _in_range(seconds: float, what: str) -> float:
    if seconds < _SMALLEST_SECONDS:
        raise ValueError(f"{what} is out of range: {seconds!r}")
    return seconds


def _moment(eta: Any, countdown: Any, clock: Clock) -> str | None:
    if countdown:
        eta = clock.now() + timedelta(seconds=_in_range(countdown, "countdown"))
    return eta if isinstance(eta, str) else (eta and eta.isoformat())


def _expiry(expires: Any, clock: Clock) -> str | None:
    if isinstance(expires, (int, float)) or hasattr(expires, "__float__"):
        expires = clock.now() + timedelta(seconds=_in_range(float(expires), "expires"))
    return expires if isinstance(expires, str) else (expires and expires.isoformat())


def _seconds_until(expires: Any, clock: Clock) -> float:
    """Seconds until a message may be dropped; nothing before now."""
    if isinstance(expires, str):
        expires = datetime.fromisoformat(expires.replace("Z", "+00:00"))
    if isinstance(expires, datetime):
        now = clock.now()
        expires = (expires - (now if expires.tzinfo else now.replace(tzinfo=None))).total_seconds()
    return max(0.0, float(expires))

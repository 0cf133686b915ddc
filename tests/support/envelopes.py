"""Real messages to be damaged: what a stock producer put on the queue, as data."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stage import Stage

_PARKING = "parking"


def capture(stage: Stage, signature: Any, **options: Any) -> dict[str, Any]:
    """Publish a signature to a queue that nobody reads and return its envelope, taken from there."""
    signature.apply_async(queue=_PARKING, **options)
    raw = stage.redis.rpop(_PARKING)
    assert raw is not None
    envelope: dict[str, Any] = json.loads(raw)
    envelope["properties"]["delivery_info"]["routing_key"] = "celery"
    return envelope


def put(stage: Stage, message: bytes | str | dict[str, Any], queue: str = "celery") -> None:
    """Put a message at the end of a queue as producers do, whatever it is."""
    stage.redis.lpush(queue, json.dumps(message) if isinstance(message, dict) else message)


def with_body(envelope: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return the envelope with another body, transfer encoding applied."""
    return {**envelope, "body": base64.b64encode(body).decode()}


def changed(envelope: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return a copy of the envelope after ``change`` had its way with it."""
    copy: dict[str, Any] = json.loads(json.dumps(envelope))
    change(copy)
    return copy

"""Messages rewritten so that the engine and the children need to know one form only: protocol 2 with plain dates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.serialization import dumps, registry
from kombu.utils.json import dumps as json_dumps

if TYPE_CHECKING:
    from kombu.message import Message

    from pyworker._native import Engine

#: What a request adds to its message's headers.
_ADDED = frozenset({"args", "kwargs", "properties", "reply_to", "correlation_id", "hostname", "delivery_info"})


def rewrite(engine: Engine, handle: int, request: Any, message: Message) -> None:
    """Give the engine a delivery's new content.

    Args:
        engine: the engine that shows the delivery.
        handle: the delivery.
        request: Celery's request, made from the old message by its own conversion.
        message: the old message.
    """
    headers = {name: value for name, value in request.request_dict.items() if name not in _ADDED}
    # A body that was compressed is not any more.
    headers.pop("compression", None)
    # Celery reads an ETA without a zone in the producer's mode (``utc``); resolved, it needs no mode.
    if request.eta is not None:
        headers["eta"] = request.eta.isoformat()
    if request.expires is not None:
        headers["expires"] = request.expires.isoformat()
    content_type, content_encoding, body = _body(request, message)
    engine.replace(
        handle,
        json_dumps(headers, default=str).encode(),
        json_dumps(message.properties).encode(),
        body,
        content_type,
        content_encoding,
        str(request.id),
        str(request.type),
    )


def _body(request: Any, message: Message) -> tuple[str, str, bytes]:
    """Return content type, encoding and bytes of the new body."""
    if request.content_type is not None:
        return message.content_type, message.content_encoding, _to_bytes(message.body)
    serializer = registry.type_to_name.get(message.content_type, "json")
    content_type, content_encoding, body = dumps(request.body, serializer=serializer)
    return content_type, content_encoding, _to_bytes(body, content_encoding)


def _to_bytes(body: Any, encoding: str = "utf-8") -> bytes:
    return body.encode(encoding) if isinstance(body, str) else bytes(body)

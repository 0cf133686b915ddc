"""Messages of protocol 1 rewritten as protocol 2, so that the engine and the children know one protocol only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.serialization import dumps, registry
from kombu.utils.json import dumps as json_dumps

if TYPE_CHECKING:
    from kombu.message import Message

    from pyworker._native import Engine

#: What a request adds to its message's headers.
_ADDED = frozenset({"args", "kwargs", "properties", "reply_to", "correlation_id", "hostname", "delivery_info"})


def replace_with_protocol_2(engine: Engine, handle: int, request: Any, message: Message) -> None:
    """Give the engine a delivery's new content.

    Args:
        engine: the engine that shows the delivery.
        handle: the delivery.
        request: Celery's request, made from the old message by its own conversion.
        message: the old message.
    """
    headers = {name: value for name, value in request.request_dict.items() if name not in _ADDED}
    headers.pop("compression", None)
    # Celery reads an ETA without a zone in the producer's mode (``utc``); resolved, it needs no mode.
    if request.eta is not None:
        headers["eta"] = request.eta.isoformat()
    if request.expires is not None:
        headers["expires"] = request.expires.isoformat()
    serializer = registry.type_to_name.get(message.content_type, "json")
    content_type, content_encoding, body = dumps(request.body, serializer=serializer)
    engine.replace(
        handle,
        json_dumps(headers, default=str).encode(),
        json_dumps(message.properties).encode(),
        body.encode(content_encoding) if isinstance(body, str) else bytes(body),
        content_type,
        content_encoding,
        str(request.id),
        str(request.type),
    )

"""kombu's messages in the parts that the engine takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kombu.exceptions import EncodeError

from pyworker.publish.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Tag, queue, earlier deliveries, headers, properties, body, content type, content encoding.
Parcel: TypeAlias = tuple[int, int, int, bytes, bytes, bytes, str, str]

_SCALARS = (str, int, float, bool, type(None))
#: Parts that kombu's AMQP messages name twice.
_ELSEWHERE = frozenset({"application_headers", "delivery_info"})


def parcel_of(tag: int, queue: int, message: Any) -> Parcel:
    """Take a message apart.

    Args:
        tag: names the delivery to the engine.
        queue: index of its queue.
        message: a ``kombu.Message``, not decoded.
    """
    headers = message.headers or {}
    if "compression" in headers and not message.errors:
        # kombu has undone it already, unless it failed: then the main process says what is wrong.
        headers = {name: value for name, value in headers.items() if name != "compression"}
    information = dict(message.delivery_info or {})
    earlier = _earlier_deliveries(message, headers, information)
    if earlier:
        information["redelivered"] = True
    properties = {name: value for name, value in (message.properties or {}).items() if name not in _ELSEWHERE}
    properties["delivery_tag"] = message.delivery_tag
    # Transports leave objects of their own here; a task sees exchange, key and redelivered.
    properties["delivery_info"] = {key: value for key, value in information.items() if isinstance(value, _SCALARS)}
    return (
        tag, queue, earlier, _json(headers), _json(properties), _bytes(message.body),
        str(message.content_type or ""), str(message.content_encoding or ""),
    )  # fmt: skip


def _earlier_deliveries(message: Any, headers: Mapping[str, Any], information: Mapping[str, Any]) -> int:
    """How often it was handed out before, by whatever count the transport has."""
    counted = headers.get("x-delivery-count")
    if isinstance(counted, int):
        return max(counted, 0)
    attributes = (information.get("sqs_message") or {}).get("Attributes") or {}
    received = str(attributes.get("ApproximateReceiveCount", ""))
    if received.isdigit():
        return max(int(received) - 1, 0)
    # Virtual transports mark a restored message beside its properties.
    raw = getattr(message, "_raw", None)
    marked = isinstance(raw, dict) and bool(raw.get("redelivered"))
    return int(marked or bool(information.get("redelivered")))


def _json(value: Any) -> bytes:
    try:
        return encode_json(value)
    except (EncodeError, TypeError, ValueError):
        # A value that has no JSON form is for people only: nothing that a worker reads is such a value.
        return encode_json(_printable(value))


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _printable(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(member) for member in value]
    return value if isinstance(value, _SCALARS) else repr(value)


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if body is None:
        return b""
    return bytes(body) if isinstance(body, (bytearray, memoryview)) else encode_json(body)

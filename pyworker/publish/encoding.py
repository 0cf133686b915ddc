"""Bodies of messages: JSON as kombu reads it, any other serializer through kombu, compression natively."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from pyworker.compression import compress
from pyworker.publish.registered import json_is_kombus

JSON_TYPE = "application/json"
JSON_ENCODING = "utf-8"
#: Values nested deeper are left to kombu, which says what is wrong with them.
_DEPTH = 64


class Payload(NamedTuple):
    """An encoded body."""

    data: bytes
    content_type: str
    content_encoding: str


def is_plain(value: Any, depth: int = _DEPTH) -> bool:
    """Whether a fast JSON encoder writes a value that kombu's decoder reads as the same."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is float:
        return bool(value - value == 0)
    if depth == 0:
        return False
    if kind is list or kind is tuple:
        return all(is_plain(member, depth - 1) for member in value)
    # A subclass may give its members in another order, or others.
    if kind is dict or (isinstance(value, dict) and kind.items is dict.items):
        return all(type(key) is str and is_plain(member, depth - 1) for key, member in value.items())
    return False


def encode_json(value: Any) -> bytes:
    """Encode as kombu's own JSON, whatever an application has registered under its name.

    Raises:
        kombu.exceptions.EncodeError: the value has no JSON form.
    """
    if is_plain(value):
        try:
            return orjson.dumps(value)
        except TypeError:
            pass  # integers above 64 bits, lone surrogates: kombu knows how
    from kombu.exceptions import EncodeError
    from kombu.utils.json import dumps

    try:
        return str(dumps(value)).encode()
    except Exception as error:
        raise EncodeError(error) from error


def encode(value: Any, serializer: str) -> Payload:
    """Encode by a serializer of kombu's registry.

    Raises:
        kombu.exceptions.SerializerNotInstalled: there is none of that name.
        kombu.exceptions.EncodeError: the value cannot be serialized.
    """
    from kombu import serialization

    encoded: tuple[Any, Any, Any] = serialization.dumps(value, serializer=serializer)
    content_type, content_encoding, data = encoded
    return Payload(data.encode() if isinstance(data, str) else data, content_type, content_encoding)


def encode_body(value: Any, serializer: str | None) -> Payload:
    """Encode a task's body."""
    if (serializer is None or serializer == "json") and json_is_kombus():
        return Payload(encode_json(value), JSON_TYPE, JSON_ENCODING)
    return encode(value, serializer or "json")


def compressed(payload: Payload, method: str, headers: dict[str, Any]) -> Payload:
    """Compress a body and say so in the headers."""
    data, headers["compression"] = compress(payload.data, method)
    return payload._replace(data=data)

"""Stored metas: encoding, decoding, exceptions in and out; Celery's format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any

import orjson

from pyworker import exceptions, states
from pyworker._native import compress, decompress
from pyworker.exceptions import SecurityError

#: What a compressed payload begins with; content type, NUL and data follow.
COMPRESSED = b"\x00celery-compressed\x00"
_MAX_BYTES = 512 * 1024 * 1024
_TYPE_MARKER = b"__type__"
_ESCAPE = b"\\u00"
_OUR_MODULE = exceptions.__name__
_CELERYS_MODULES = frozenset({"celery.exceptions", "billiard.exceptions", "kombu.exceptions"})
_made: dict[tuple[str, str], type[Exception]] = {}


class MetaCodec:
    """Encodes and decodes metas by one serializer.

    Raises:
        kombu.exceptions.SerializerNotInstalled: there is none of that name.
    """

    def __init__(self, serializer: str, compression: str | None, accept: Collection[str]) -> None:
        from kombu import serialization

        self._registry = serialization
        self.serializer = serializer
        self.compression = compression
        self._accept = serialization.prepare_accept_content(accept)
        self.content_type, self.content_encoding = serialization.registry._encoders[serializer][:2]

    def encode(self, value: Any) -> bytes:
        """Encode a meta or a part of one."""
        data = self._registry.dumps(value, serializer=self.serializer)[2]
        raw = data.encode() if isinstance(data, str) else data
        if self.compression:
            packed, content_type = compress(self.compression, raw)
            return b"".join((COMPRESSED, content_type.encode(), b"\x00", packed))
        return raw

    def decode(self, payload: bytes) -> Any:
        """Decode a payload."""
        if payload.startswith(COMPRESSED):
            content_type, _, packed = payload[len(COMPRESSED) :].partition(b"\x00")
            payload = decompress(content_type.decode(), packed, _MAX_BYTES)
        if self.serializer == "json" and _TYPE_MARKER not in payload and _ESCAPE not in payload:
            try:
                return orjson.loads(payload)
            except ValueError:
                pass  # NaN and the like: not JSON, but kombu reads it
        return self._registry.loads(payload, self.content_type, self.content_encoding, accept=self._accept)

    def decode_meta(self, payload: bytes) -> dict[str, Any]:
        """Decode a meta; a stored exception becomes one."""
        return _with_exception(self.decode(payload))

    def decode_message(self, payload: bytes, content_type: str, content_encoding: str) -> dict[str, Any]:
        """Decode a meta that says itself how it is encoded, within what is accepted."""
        if content_type == self.content_type:
            return self.decode_meta(payload)
        meta: Any = self._registry.loads(payload, content_type, content_encoding, accept=self._accept)
        return _with_exception(meta)

    @staticmethod
    def exception_of(stored: Any) -> BaseException:
        """Rebuild an exception from a meta."""
        return exception_from_stored(stored) or Exception(stored)

    def exception_to_stored(self, error: BaseException) -> Any:
        """Return what stands for an exception in a meta."""
        if self.serializer == "pickle":
            return error
        kind = type(error)
        return {
            "exc_type": kind.__qualname__,
            "exc_message": _serializable(error.args, self.encode),
            "exc_module": kind.__module__,
        }


def _with_exception(meta: dict[str, Any]) -> dict[str, Any]:
    if meta["status"] in states.EXCEPTION_STATES:
        meta["result"] = exception_from_stored(meta["result"])
    return meta


def _serializable(values: tuple[Any, ...], encode: Callable[[Any], bytes]) -> tuple[Any, ...]:
    safe: list[Any] = []
    for value in values:
        try:
            encode(value)
        except Exception:
            value = _described(value)
        safe.append(value)
    return tuple(safe)


def _described(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<Unrepresentable {type(value)!r}: {error!r}>"


def exception_from_stored(stored: Any) -> BaseException | None:
    """Rebuild an exception: as its own class if that is imported here, else as one made up with its name.

    Raises:
        SecurityError: the class named is no exception.
    """
    if not stored:
        return None
    if isinstance(stored, BaseException):
        return stored
    if not isinstance(stored, dict):
        try:
            stored = dict(stored)
        except (TypeError, ValueError):
            raise TypeError(f"A stored exception must be an exception or a mapping, not {stored!r}") from None
    if "exc_type" not in stored:
        raise ValueError("Exception information must include the exception type")
    name, module, message = stored["exc_type"], stored.get("exc_module"), stored.get("exc_message", "")
    kind = _class_named(module, name)
    if not isinstance(kind, type) or not issubclass(kind, BaseException):
        shown = name if module is None else f"{module}.{name}"
        raise SecurityError(f"Expected an exception class, got {shown} with payload {message}")
    try:
        return kind(*message) if isinstance(message, (tuple, list)) else kind(message)
    except Exception:
        return Exception(f"{kind}({message})")


def _class_named(module: str | None, name: str) -> Any:
    if module is None:
        return _made_up(name, __name__)
    found: Any = sys.modules.get(module)
    if found is None and module in _CELERYS_MODULES:
        found = getattr(exceptions, name, None) and exceptions
    if found is None:
        return _made_up(name, _OUR_MODULE)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return _made_up(name, _OUR_MODULE)
    return found


def _made_up(name: str, module: str) -> type[Exception]:
    kind = _made.get((name, module))
    if kind is None:
        kind = _made[name, module] = type(str(name), (Exception,), {"__module__": module})
    return kind

"""Stored metas: encoding and decoding by one of kombu's serializers; Celery's format."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import orjson

from pyworker import states
from pyworker._native import is_plain_json
from pyworker.backends.stored_exceptions import exception_from_stored, exception_to_stored
from pyworker.compression import compress, decompress

if TYPE_CHECKING:
    from pyworker.conf import Settings

#: What a compressed payload begins with; content type, NUL and data follow.
COMPRESSED = b"\x00celery-compressed\x00"
_JSON = "application/json"
#: How much of a damaged result an error shows.
_SHOWN = 200


class MetaCodec:
    """Encodes and decodes metas by one serializer.

    Args:
        serializer: its name in kombu's registry.
        compression: a compression's name, None for none.
        accept: serializers or content types that may be decoded; None for all that are not disabled.

    Raises:
        kombu.exceptions.SerializerNotInstalled: there is none of that name.
    """

    def __init__(self, serializer: str, compression: str | None, accept: Collection[str] | None) -> None:
        from kombu import serialization
        from kombu.exceptions import SerializerNotInstalled
        from kombu.utils import json

        self._registry = serialization.registry
        self.serializer = serializer
        self.compression = compression
        self._accept = serialization.prepare_accept_content(accept)
        codec = self._registry._encoders.get(serializer)
        if codec is None:
            raise SerializerNotInstalled(f"No encoder/decoder installed for {serializer}")
        self.content_type, self.content_encoding = codec[:2]
        self._kombus_json = json.loads

    @classmethod
    def of(cls, conf: Settings, *, compresses: bool = True) -> MetaCodec:
        """Return the codec that the settings name: ``result_serializer``, ``result_compression``, what is accepted.

        Args:
            conf: the settings.
            compresses: whether the store takes compressed results.
        """
        accept = conf.accept_content if conf.result_accept_content is None else conf.result_accept_content
        return cls(conf.result_serializer, conf.result_compression if compresses else None, accept)

    def encode(self, value: Any) -> bytes:
        """Encode a meta or a part of one."""
        data = self._registry.dumps(value, serializer=self.serializer)[2]
        raw = data.encode() if isinstance(data, str) else data
        if self.compression:
            packed, content_type = compress(raw, self.compression)
            return b"".join((COMPRESSED, content_type.encode(), b"\x00", packed))
        return raw

    def decode(self, payload: bytes) -> Any:
        """Decode a payload.

        Raises:
            kombu.exceptions.ContentDisallowed: the serializer is not accepted; nothing was decoded.
            kombu.exceptions.DecodeError: the payload is damaged.
        """
        if payload.startswith(COMPRESSED):
            self._loads(b"")  # refuses what is not accepted before it becomes large
            content_type, _, packed = payload[len(COMPRESSED) :].partition(b"\x00")
            payload = decompress(packed, content_type.decode())
        if self._reads_plain_json and is_plain_json(payload):
            try:
                return orjson.loads(payload)
            except ValueError:
                pass  # NaN and the like: not JSON, but kombu reads it
        return self._loads(payload)

    @property
    def _reads_plain_json(self) -> bool:
        """Whether results are JSON that is accepted, and kombu's own decoder reads it."""
        return (
            self.content_type == _JSON
            and (self._accept is None or _JSON in self._accept)
            and self._registry._decoders.get(_JSON) is self._kombus_json
        )

    def _loads(self, payload: bytes) -> Any:
        return self._registry.loads(payload, self.content_type, self.content_encoding, accept=self._accept)

    def decode_meta(self, payload: bytes) -> dict[str, Any]:
        """Decode a meta; a stored exception becomes one.

        Raises:
            kombu.exceptions.DecodeError: the payload is no task's meta.
            SecurityError: it names a class that is no exception.
        """
        return _with_exception(self.decode(payload))

    def decode_message(self, payload: bytes, content_type: str, content_encoding: str) -> dict[str, Any]:
        """Decode a meta that says itself how it is encoded, within what is accepted; raises as :meth:`decode_meta`."""
        if content_type == self.content_type:
            return self.decode_meta(payload)
        return _with_exception(self._registry.loads(payload, content_type, content_encoding, accept=self._accept))

    @staticmethod
    def exception_of(stored: Any) -> BaseException:
        """Rebuild an exception from a meta."""
        return exception_from_stored(stored) or Exception(stored)

    def exception_to_stored(self, error: BaseException) -> Any:
        """Return what stands for an exception in a meta."""
        return error if self.serializer == "pickle" else exception_to_stored(error, self.encode)


def _with_exception(meta: Any) -> dict[str, Any]:
    """Return a meta with its stored exception rebuilt."""
    if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
        from kombu.exceptions import DecodeError

        raise DecodeError(f"what is stored is no result of a task: {repr(meta)[:_SHOWN]}")
    if meta["status"] in states.EXCEPTION_STATES:
        meta["result"] = exception_from_stored(meta.get("result"))
    return meta

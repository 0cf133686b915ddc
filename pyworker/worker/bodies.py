"""Decoding of message bodies, in children and in the main process: accepted first, bounded, then decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.serialization import loads, prepare_accept_content, registry
from kombu.utils import json as kombu_json

from pyworker.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


JSON = "application/json"


class BodyDecoder:
    """Decodes bodies as kombu's messages do.

    Args:
        accept_content: names of serializers or content types; None for all that are not disabled.

    Raises:
        kombu.exceptions.SerializerNotInstalled: a name is unknown.

    Attributes:
        accept: the content types that may be decoded, None for all that are not disabled.
    """

    def __init__(self, accept_content: Collection[str] | None) -> None:
        self.accept: set[str] | None = prepare_accept_content(accept_content)

    @property
    def reads_plain_json(self) -> bool:
        """Whether ``application/json`` may be decoded, and kombu's own decoder does it."""
        is_accepted = JSON not in registry._disabled_content_types if self.accept is None else JSON in self.accept
        return is_accepted and json_is_kombus()

    def __call__(self, body: bytes, headers: Mapping[str, Any], content_type: str, content_encoding: str) -> Any:
        """Return the payload.

        Raises:
            kombu.exceptions.ContentDisallowed: the content type is not accepted; nothing was touched.
            kombu.exceptions.DecodeError: the body is damaged.
            KeyError: it is compressed by an unknown method.
            NativeError: what was compressed is damaged or too large.
        """
        method = headers.get("compression")
        if method:
            require_accepted(content_type, content_encoding, self.accept)
            body = decompress(body, method)
        return loads(body, content_type, content_encoding, accept=self.accept)


def json_is_kombus() -> bool:
    """Whether ``application/json`` is decoded by kombu's own function; an application may replace it."""
    return registry._decoders.get(JSON) is kombu_json.loads


def require_accepted(content_type: str | None, content_encoding: str | None, accept: Collection[str] | None) -> None:
    """Refuse a content type that may not be decoded.

    Raises:
        kombu.exceptions.ContentDisallowed: it is not accepted.
    """
    # Nothing to decode: what is left of it is kombu's own check, in its own words.
    loads(b"", content_type, content_encoding, accept=accept)

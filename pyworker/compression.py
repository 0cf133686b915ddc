"""Compression of bodies and results: kombu's registry decides what a name means, the native core does the work.

What an application registered with kombu in place of a known method, or beside them, is used as it is. Everything else
is the native core's, with a bound on what comes out.
"""

from __future__ import annotations

import sys
from typing import Any

from pyworker._native import NativeError
from pyworker._native import compress as compress_natively
from pyworker._native import decompress as decompress_natively
from pyworker.exceptions import ImproperlyConfigured

#: Nothing may become larger by decompression; Redis itself holds no larger value.
MAX_BYTES = 512 * 1024 * 1024
#: Where the functions come from that kombu registers by itself.
_KNOWN_MODULES = frozenset(
    {"zlib", "bz2", "_bz2", "lzma", "_lzma", "brotli", "_brotli", "brotlicffi", "zstandard", "kombu", "backports",
     "compression"}
)  # fmt: skip


def compress(data: bytes, method: str) -> tuple[bytes, str]:
    """Compress.

    Args:
        data: what to compress.
        method: a method's name or content type.

    Returns:
        The compressed data and the method's content type.

    Raises:
        ImproperlyConfigured: nobody knows the method.
    """
    own = _registered("_encoders", method)
    if own is not None:
        function, content_type = own
        return function(data), content_type
    try:
        return compress_natively(method, data)
    except NativeError as error:
        if error.kind != "config":
            raise
        raise ImproperlyConfigured(str(error)) from None


def decompress(data: bytes, method: str) -> bytes:
    """Undo a compression.

    Args:
        data: what was compressed.
        method: a method's content type or name.

    Raises:
        KeyError: nobody knows the method.
        NativeError: the data is damaged, or would become larger than :data:`MAX_BYTES`.
    """
    own = _registered("_decoders", method)
    if own is not None:
        plain: bytes = own[0](data)
        return plain
    try:
        return decompress_natively(method, data, MAX_BYTES)
    except NativeError as error:
        if error.kind != "config":
            raise
        raise KeyError(method) from None


def _registered(table: str, method: str) -> tuple[Any, str] | None:
    """Return the function that the application registered for a method, None if it is kombu's own or nobody's.

    A process that has not loaded kombu has registered nothing.
    """
    kombu = sys.modules.get("kombu.compression")
    if kombu is None:
        return None
    content_type = kombu._aliases.get(method, method)
    function = getattr(kombu, table).get(content_type)
    if function is None or str(getattr(function, "__module__", "")).partition(".")[0] in _KNOWN_MODULES:
        return None
    return function, content_type

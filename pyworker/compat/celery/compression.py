"""Undoing a body's compression in the main process, where a small message must not become a large one."""

from __future__ import annotations

from typing import Any

from kombu.compression import get_decoder

from pyworker._native import NativeError, decompress

#: No body may become larger by decompression; Redis itself holds no larger value.
MAX_BODY_BYTES = 512 * 1024 * 1024
#: Where the decoders come from that kombu registers by itself.
_KNOWN_MODULES = ("zlib", "bz2", "_bz2", "lzma", "_lzma", "brotli", "_brotli", "zstandard", "kombu", "backports")


def decompress_bounded(body: bytes, method: str) -> bytes:
    """Undo a compression registered with kombu.

    Args:
        body: the body as it came.
        method: content type or name of the compression.

    Raises:
        KeyError: nobody registered such a compression.
        NativeError: the data is damaged or becomes too large.
    """
    decoder: Any = get_decoder(method)
    if str(getattr(decoder, "__module__", "")).split(".")[0] in _KNOWN_MODULES:
        try:
            return decompress(method, body, MAX_BODY_BYTES)
        except NativeError as error:
            # Not one of the native core's; kombu has a decoder for it.
            if error.kind != "config":
                raise
    plain: bytes = decoder(body)
    return plain

"""Messages of kombu's transports whose compression is undone with a bound on what comes out."""

from __future__ import annotations

import sys
from typing import Any

from kombu.message import Message

from pyworker.compression import decompress


class BoundedMessage(Message):  # type: ignore[misc]
    """kombu's message, decompressed by us; as a transport's message class it stands behind the transport's own."""

    def __init__(self, body: Any = None, *arguments: Any, headers: Any = None, **options: Any) -> None:
        headers = headers or {}
        method = headers.get("compression")
        failure: Any = None
        if method:
            try:
                body = decompress(body, method)
            except Exception:
                # Whatever a decoder raises is the reader's to tell.
                failure = sys.exc_info()
        hidden = {name: value for name, value in headers.items() if name != "compression"} if method else headers
        super().__init__(body, *arguments, headers=hidden, **options)
        # As kombu leaves it: the header stays, and whoever sends the message again takes it away.
        self.headers = headers
        if failure is not None:
            self.errors.append(failure)


def bound_messages(channel: Any) -> None:
    """Have a channel make such messages from now on.

    Args:
        channel: of any of kombu's transports.
    """
    own = channel.Message
    if not issubclass(own, BoundedMessage):
        channel.Message = type(own.__name__, (own, BoundedMessage), {})

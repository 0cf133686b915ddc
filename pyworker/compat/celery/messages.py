"""Notices of the engine as kombu messages, and how what Celery does with them is caught as a verdict."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from kombu.message import Message

from pyworker.compression import decompress
from pyworker.worker.bodies import require_accepted
from pyworker.worker.protocol import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Notice


class VerdictChannel:
    """Stands where a message's channel is: settling the message is remembered, not sent."""

    #: kombu asks for it before an ack.
    no_ack_consumers: frozenset[str] | None = None

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self._settle: Callable[[Verdict], object] | None = None
        self._lock = threading.Lock()

    def basic_ack(self, _tag: Any, multiple: bool = False) -> None:
        """Remember an acknowledgement."""
        self._decide(Verdict.ACK)

    def basic_reject(self, _tag: Any, requeue: bool = False) -> None:
        """Remember a rejection."""
        self._decide(Verdict.REQUEUE if requeue else Verdict.REJECT)

    def hold(self, settle: Callable[[Verdict], object]) -> Verdict | None:
        """Have a later decision told; returns the decision if it was made already. For any thread."""
        with self._lock:
            if self.verdict is None:
                self._settle = settle
            return self.verdict

    def _decide(self, verdict: Verdict) -> None:
        with self._lock:
            if self.verdict is not None:
                return
            self.verdict = verdict
            settle = self._settle
        if settle is not None:
            settle(verdict)


def _object(data: bytes) -> Any:
    """Read headers or properties; what is not JSON is kept as text, as kombu would never have made it."""
    if not data:
        return {}
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def to_message(notice: Notice, accept: frozenset[str] | set[str] | None) -> Message:
    """Build the message that kombu would have handed to Celery's consumer.

    Args:
        notice: a delivery.
        accept: content types that may be decoded.
    """
    headers = _object(notice.headers)
    properties = _object(notice.properties)
    properties = properties if isinstance(properties, dict) else {}
    delivery_info = properties.get("delivery_info")
    delivery_info = dict(delivery_info) if isinstance(delivery_info, dict) else {}
    if notice.redelivered:
        delivery_info["redelivered"] = True
    properties["delivery_info"] = delivery_info
    is_object = isinstance(headers, dict)
    method = headers.get("compression") if is_object else None
    content_type, content_encoding = notice.content_type or None, notice.content_encoding or None
    body, failure = notice.raw or notice.body, None
    if method:
        try:
            require_accepted(content_type, content_encoding, accept)
            body = decompress(body, method)
        except Exception:
            # Whatever a decoder raises is the consumer's to tell.
            failure = sys.exc_info()
    message = Message(
        body=body,
        delivery_tag=properties.get("delivery_tag") or notice.handle,
        content_type=content_type,
        content_encoding=content_encoding,
        delivery_info=delivery_info,
        properties=properties,
        accept=accept,
        channel=VerdictChannel(),
    )
    # Not given to the constructor, which would undo a compression without any bound.
    message.headers = headers
    if failure is not None:
        message.errors.append(failure)
    return message

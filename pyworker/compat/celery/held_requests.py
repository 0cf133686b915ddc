"""The request objects of tasks with a request class of their own, from receipt to end.

Upstream makes one object per delivery and calls its ``on_accepted``, ``on_success``, ``on_failure``, ``on_retry`` and
``on_timeout`` as the pool reports. Such classes may keep what they like on the object in between, so it is held here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import celery.worker.request
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from kombu.message import Message

    from pyworker._native import Notice

#: Most requests that are held. The engine may hand a message back to another worker without a word; beyond this
#: the oldest are forgotten and, if their message is still here, built anew.
HELD_MAX = 100_000


def has_own_request(task: Any) -> bool:
    """Whether a task's request class is not Celery's."""
    return symbol_by_name(task.Request) is not celery.worker.request.Request


class HeldRequests:
    """Requests by delivery; used by the parent's main thread."""

    def __init__(self, held_max: int = HELD_MAX) -> None:
        self._held_max = held_max
        self._requests: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def keep(self, message: Message, request: Any) -> None:
        """Hold a request if its class is not Celery's."""
        if not has_own_request(request.task):
            return
        self._requests[_key(message, request.id)] = request
        while len(self._requests) > self._held_max:
            self._requests.popitem(last=False)

    def find(self, notice: Notice, message: Message) -> Any:
        """Return the request of a delivery, ``None`` if none is held; its end takes it out."""
        if not self._requests:
            return None
        key = _key(message, notice.task_id)
        if notice.handle:
            return self._requests.pop(key, None)
        return self._requests.get(key)


def _key(message: Message, task_id: str) -> str:
    """Name a delivery by what stays the same when the engine parks and recalls its message."""
    return f"{message.properties.get('delivery_tag')}/{task_id}"

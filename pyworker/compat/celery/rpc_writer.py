"""Turns result messages of Celery's own ``rpc://`` backend in a child into messages that the engine sends.

Replaced on the backend instance of the child's main thread: ``store_result``. The meta stays Celery's; what Celery
hands to kombu's producer is encoded here and leaves with the engine's next batch, confirmed.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from celery import states
from kombu.serialization import dumps

from pyworker._native import build_amqp_message
from pyworker.compat.celery.result_writer import ResultWriter, call_if_alive

if TYPE_CHECKING:
    from collections.abc import Callable


class RpcResultWriter(ResultWriter):
    """Sends the results of one child."""

    __slots__ = ()

    stores_metas = False

    def install(self) -> None:
        """Replace the backend instance's method; that of an earlier writer (``-P solo``) is taken away first."""
        backend = self._backend
        vars(backend).pop("store_result", None)
        backend.store_result = self._sent_natively(backend.store_result)
        deactivate = WeakMethod(self.deactivate)
        os.register_at_fork(after_in_child=lambda: call_if_alive(deactivate()))

    def _sent_natively(self, store: Callable[..., Any]) -> Callable[..., Any]:
        backend = self._backend

        def store_result(
            task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
        ) -> Any:
            if not self.is_ours():
                return store(task_id, result, state, traceback=traceback, request=request, **options)
            queue, correlation_id = backend.destination_for(task_id, request)
            if not queue:
                return None
            meta = backend._to_result(task_id, state, result, traceback, request)
            content_type, content_encoding, body = dumps(meta, serializer=backend.serializer)
            properties = {
                "delivery_mode": backend.delivery_mode, "correlation_id": correlation_id, "priority": 0,
            }  # fmt: skip
            message = build_amqp_message(
                body.encode(content_encoding) if isinstance(body, str) else body,
                b"{}",
                json.dumps(properties).encode(),
                content_type,
                content_encoding,
            )
            is_own = task_id == self.task_id
            self._store(self.sequence if is_own else 0, queue.encode(), message, state == states.SUCCESS)
            return result

        return store_result

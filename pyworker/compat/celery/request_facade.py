"""Real request objects for deliveries that end, or are looked at, in the parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker.request import create_request_cls
from kombu.utils.imports import symbol_by_name

from pyworker.compat.celery.messages import to_message

if TYPE_CHECKING:
    from kombu.message import Message

    from pyworker._native import Notice


class Requests:
    """Builds requests of the classes that the application's tasks name.

    Args:
        consumer: the consumer facade.
        accept: content types that may be decoded.
    """

    def __init__(self, consumer: Any, accept: frozenset[str] | set[str] | None) -> None:
        self._consumer = consumer
        self._accept = accept
        self._classes: dict[str, Any] = {}

    def message(self, notice: Notice) -> Message:
        """Return the notice's message."""
        return to_message(notice, self._accept)

    def build(self, notice: Notice, message: Message) -> Any:
        """Build the request of a delivery as the task's strategy does.

        Raises:
            Exception: whatever decoding the body or reading the headers raises.
        """
        consumer = self._consumer
        app = consumer.app
        task = app.tasks[notice.task_name]
        request = self._class_of(task)(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=app.uses_utc_timezone(),
        )
        if notice.pid:
            request.worker_pid = notice.pid
        return request

    def _class_of(self, task: Any) -> Any:
        made = self._classes.get(task.name)
        if made is None:
            base = symbol_by_name(task.Request)
            consumer = self._consumer
            made = self._classes[task.name] = create_request_cls(
                base, task, consumer.pool, consumer.hostname, consumer.event_dispatcher, app=consumer.app
            )
        return made

"""Task and worker events of a Celery application: Celery's own dispatcher and steps, the engine behind them.

The engine builds the events of tasks that pass through it and hands them over in lists. What Celery's own code sends
about a task (revoked, rejected, failed in the main process) joins those lists, so that the order of a task's events
holds. Events of the worker itself go through the dispatcher as always, and then take the same connection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from celery.events.event import get_exchange, group_from
from celery.utils.log import get_logger
from celery.utils.time import utcoffset
from kombu.serialization import dumps

from pyworker.worker.event_publisher import EventPublisher, publish_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import Engine
    from pyworker.worker.broker_line import BrokerLine

logger = get_logger("celery.worker.consumer.events")

_TASK = "task"


def make_dispatcher(consumer: Any, *, task_events: bool) -> Any:
    """Make the consumer's one dispatcher, off until the ``Events`` step starts.

    Celery makes a new one for every connection; here code that took it from the consumer keeps the right one.
    """
    app = consumer.app
    base = app.events.Dispatcher

    class EngineDispatcher(base):  # type: ignore[misc, valid-type]
        """The application's dispatcher, with task events going to the engine."""

        engine: Engine | None = None
        #: Where everything else leaves by; set when there is an engine.
        publisher: EventPublisher | None = None
        #: The engine has told the receipt of the task that a strategy is looking at.
        is_receipt_sent = False

        def send(self, type: str, blind: bool = False, **fields: Any) -> Any:
            """Send an event, or put it into the engine's list."""
            if self.engine is None or group_from(type) != _TASK or "uuid" not in fields:
                return super().send(type, blind=blind, **fields)
            if not self.sends_task_events or (type == "task-received" and self.is_receipt_sent):
                return None
            for option in ("utcoffset", "retry", "retry_policy", "Event"):
                fields.pop(option, None)
            task_id = str(fields.pop("uuid"))
            _, _, members = dumps(fields, "json")
            self.engine.send_task_event(type, task_id, members.encode() if isinstance(members, str) else members)
            return None

        def _publish(self, event: Any, producer: Any, routing_key: str, **options: Any) -> None:
            """Leave an event of this dispatcher's own to the node's broker line."""
            if self.publisher is None or producer is None or producer is not self.producer:
                super()._publish(event, producer, routing_key, **options)
                return
            _, _, body = dumps(event, "json")
            self.publisher.put(body.encode() if isinstance(body, str) else body, routing_key)

        @property
        def sends_task_events(self) -> bool:
            """Whether task events are wanted now."""
            return bool(self.enabled and (not self.groups or _TASK in self.groups))

    return EngineDispatcher(
        app.connection_for_write(),
        hostname=consumer.hostname,
        enabled=False,
        groups=None if task_events else ["worker"],
    )


class TaskEvents:
    """Keeps the engine's events in step with the dispatcher, and publishes its lists.

    Args:
        consumer: the consumer facade.
        task_names: the registered tasks in the order of their indexes.
        line: the connection that events leave by.
    """

    def __init__(self, consumer: Any, task_names: Sequence[str], line: BrokerLine) -> None:
        self._consumer = consumer
        self._names = task_names
        self._publisher = EventPublisher(line, self._publish)
        consumer.event_dispatcher.publisher = self._publisher
        self.engine: Engine | None = None

    def update(self) -> None:
        """Tell the engine whether task events are wanted now."""
        assert self.engine is not None
        tasks = self._consumer.app.tasks
        silent = [index for index, name in enumerate(self._names) if not getattr(tasks.get(name), "send_events", True)]
        self.engine.set_task_events(
            self._consumer.event_dispatcher.sends_task_events,
            pid=os.getpid(),
            utc_offset_h=utcoffset(),
            silent_tasks=silent,
        )

    def put(self, body: bytes) -> None:
        """Publish a list."""
        self._publisher.put(body)

    def stop(self) -> None:
        """Publish what is left."""
        self._publisher.stop()

    def _publish(self, connection: Any, body: bytes, routing_key: str) -> None:
        dispatcher = self._consumer.event_dispatcher
        exchange = get_exchange(connection, name=self._consumer.app.conf.event_exchange)
        publish_json(
            connection, exchange, body, routing_key=routing_key, serializer=dispatcher.serializer,
            headers=dispatcher.headers, delivery_mode=dispatcher.delivery_mode,
        )  # fmt: skip

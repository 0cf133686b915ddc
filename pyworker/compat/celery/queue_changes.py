"""What remote control changes on a consumer while it runs: queues and rate limits, told to the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from celery.utils.time import rate

from pyworker._native import NativeError
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyworker._native import Engine
    from pyworker.worker.added_queues import AddedQueues

logger = get_logger("celery.worker.consumer.consumer")


class QueueChanges:
    """Mixed in before Celery's consumer class: its methods of the same names, with the engine consuming."""

    #: Set when the engine exists.
    engine: Engine | None = None
    task_indexes: Mapping[str, int] = {}
    added_queues: AddedQueues
    #: The worker was started with ``worker_disable_rate_limits``.
    ignores_rate_limits = False

    # Attributes of the class it is mixed into.
    app: Any
    task_consumer: Any

    def add_task_queue(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> None:
        """Begin to consume from a queue; one that is not configured is declared."""
        queues = self.app.amqp.queues
        if queue in queues:
            entity = queues.select_add(queues[queue])
        else:
            entity = queues.select_add(
                queue,
                exchange=queue if exchange is None else exchange,
                exchange_type="direct" if exchange_type is None else exchange_type,
                routing_key=routing_key,
                **options,
            )
        consumed = self.task_consumer._queues
        if entity.name in consumed or self.engine is None:
            return
        try:
            self.added_queues.add(self.engine, entity)
        except (NativeError, ImproperlyConfigured) as error:
            logger.error("Cannot consume from %s: %s", queue, error)
            return
        consumed[entity.name] = entity
        logger.info("Started consuming from %s", queue)

    def cancel_task_queue(self, queue: str) -> None:
        """Stop to consume from a queue; what was taken from it is run."""
        logger.info("Canceling queue %s", queue)
        queues = self.app.amqp.queues
        queues.deselect(queue)
        name = queues.aliases.get(queue, queue)
        if self.engine is not None:
            self.added_queues.remove(self.engine, name)
        self.task_consumer._queues.pop(name, None)

    def reset_rate_limits(self) -> None:
        """Tell the engine every task's rate limit as it is now."""
        if self.engine is None or self.ignores_rate_limits:
            return
        for name, index in self.task_indexes.items():
            task = self.app.tasks.get(name)
            limit = rate(getattr(task, "rate_limit", None)) if task is not None else None
            self.engine.set_rate_limit(index, float(limit) if limit else None)

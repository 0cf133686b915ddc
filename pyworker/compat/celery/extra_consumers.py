"""Message consumers of the application's own (``bootsteps.ConsumerStep``), which Celery's event loop would drain.

The engine consumes tasks on connections of its own; these consumers live on the consumer's kombu connection, drained by
one thread that exists only if the application has such a step. Their callbacks run in that thread.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

from pyworker.compat.celery.event_steps import GossipStep
from pyworker.worker.draining import Drain

logger = get_logger("celery.worker.consumer.consumer")

#: How long a stop waits for a callback that runs.
_LAST_CALLBACK_S = 2.0
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0


class ExtraConsumers:
    """Drains the consumers of a consumer's steps.

    Args:
        consumer: the consumer facade, its steps started.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._drain = Drain()
        self._thread: threading.Thread | None = None

    @property
    def _steps(self) -> list[Any]:
        own = (step for step in self._consumer.steps if isinstance(step, bootsteps.ConsumerStep))
        return [step for step in own if not isinstance(step, GossipStep)]

    def start(self) -> None:
        """Start the thread if there is anything to drain."""
        if any(step.consumers for step in self._steps):
            self._thread = threading.Thread(target=self._run, name="pyworker-consumers", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop draining; the steps cancel their consumers themselves."""
        self._drain.stop()
        if self._thread is not None:
            self._thread.join(_LAST_CALLBACK_S)

    def _run(self) -> None:
        consumer = self._consumer
        while not self._drain.is_stopping:
            try:
                self._drain.deliver(consumer.connection)
                self._drain.wait(consumer.connection)
            except consumer.connection_errors as error:
                logger.warning("Connection of the application's own consumers lost: %r", error)
                self._reconnect()
            except Exception:
                # A callback's mistake must not silence the other consumers.
                logger.exception("A consumer of the application failed")

    def _reconnect(self) -> None:
        consumer = self._consumer
        delay_s = _FIRST_RETRY_S
        while not self._drain.pause(delay_s):
            delay_s = min(delay_s * 2, _LONGEST_RETRY_S)
            try:
                consumer.connection.collect()
                consumer.connection = consumer.app.connection_for_read(heartbeat=consumer.app.conf.broker_heartbeat)
                for step in self._steps:
                    step.start(consumer)
            except consumer.connection_errors as error:
                logger.warning("The application's own consumers cannot connect: %r", error)
            else:
                return

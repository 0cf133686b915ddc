"""What the worker says about its broker connection, in Celery's words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyworker.worker.config import RetryPolicy

logger = logging.getLogger("celery.worker.consumer.consumer")
connection_logger = logging.getLogger("celery.worker.consumer.connection")

CANNOT_CONNECT = "consumer: Cannot connect to %s: %s.\n%s\n"
CONNECTION_LOST = "consumer: Connection to broker lost. Trying to re-establish the connection..."
NEXT_STEP = "Trying again {when}... ({attempt}/{limit})"
RETRY_DISABLED = (
    "Retrying to {verb} a connection to the message broker after a connection loss has been disabled"
    " (app.conf.{setting}=False). Shutting down..."
)
_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


class ConnectionLog:
    """Counts attempts and tells a first connection from a lost one."""

    def __init__(self, broker_uri: str, retry: RetryPolicy) -> None:
        self._broker_uri = broker_uri
        self._retry = retry
        self._attempt = 0
        self._is_connected = False
        self._was_connected = False

    def on_connected(self) -> None:
        """The broker answers."""
        self._attempt = 0
        self._is_connected = self._was_connected = True
        connection_logger.info("Connected to %s", self._broker_uri)

    def on_disconnected(self, text: str, seconds_to_retry: float) -> bool:
        """An attempt failed or the connection broke. Returns whether the engine tries again."""
        was_connected, self._is_connected = self._is_connected, False
        if seconds_to_retry < 0:
            self._give_up(text)
            return False
        if was_connected:
            logger.warning("%s (%s)", CONNECTION_LOST, text)
        else:
            self._attempt += 1
            limit = "None" if self._retry.max_retries is None else str(self._retry.max_retries)
            step = NEXT_STEP.format(when=in_seconds(seconds_to_retry), attempt=self._attempt, limit=limit)
            logger.error(CANNOT_CONNECT, self._broker_uri, text, step)
        return True

    def _give_up(self, text: str) -> None:
        logger.error(CANNOT_CONNECT, self._broker_uri, text, "")
        is_startup = not self._was_connected
        if (self._retry.retry_on_startup if is_startup else self._retry.retry) is False:
            setting = "broker_connection_retry_on_startup" if is_startup else "broker_connection_retry"
            verb = "establish" if is_startup else "re-establish"
            logger.critical(RETRY_DISABLED.format(verb=verb, setting=setting))


def in_seconds(seconds: float) -> str:
    """A waiting time for people: ``in 2.00 seconds``, ``in 1.50 minutes``, ``now``."""
    seconds = round(seconds, 2)
    for unit, size in _UNITS:
        if seconds >= size:
            count = seconds / size
            return f"in {count:.2f} {unit}{'' if count == 1 else 's'}"
    return "now"

"""The thread that owns the connection to a broker behind one of kombu's transports.

It is started after the fork server was forked, so no child inherits it or its sockets. Connecting, and connecting
again, follow ``broker_connection_*`` as in Celery; what the engine makes of it is told through the link.
"""

from __future__ import annotations

import logging
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from pyworker.worker import kombu_loops
from pyworker.worker.kombu_consuming import Consuming

if TYPE_CHECKING:
    from pyworker.worker.kombu_config import KombuBrokerConfig
    from pyworker.worker.kombu_consuming import KombuSource

logger = logging.getLogger("celery.worker")

#: How long a dead connection may take to be taken apart, as in Celery.
_COLLECT_S = 5.0


class KombuCarrier:
    """Carries messages between one of kombu's connections and the engine.

    Args:
        source: the application.
        config: the broker's configuration.
    """

    def __init__(self, source: KombuSource, config: KombuBrokerConfig) -> None:
        self._source = source
        self._config = config
        self._link = config.link
        self._queues = dict(enumerate(config.queues))
        self._tags = count(1)
        self._was_connected = False
        self._thread = threading.Thread(target=self._run, name="pyworker-kombu", daemon=True)

    def start(self) -> None:
        """Start the thread; after the engine's."""
        logger.info("broker: through kombu, because %s", self._config.reason)
        self._thread.start()

    def stop(self, *, deadline_s: float = 10.0) -> None:
        """Wait for the thread, which ends when the engine has; at most until the deadline."""
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            logger.warning("the broker's transport does not return: its connection is left to the operating system")

    def _run(self) -> None:
        try:
            while self._carry():
                pass
        except Exception as error:
            logger.critical("Unrecoverable error: %r", error, exc_info=True)
            self._link.disconnected(repr(error), None)

    def _carry(self) -> bool:
        """Live through one connection; returns whether to make another one."""
        connection = self._source.kombu_connection()
        hub = kombu_loops.new_hub() if kombu_loops.is_asynchronous(connection) else None
        errors = connection.connection_errors
        if self._config.retries_channel_errors:
            errors += connection.channel_errors
        try:
            if not self._connect(connection):
                return False
            if hub is not None:
                connection.register_with_event_loop(hub)
            consuming = Consuming(self._source, connection, self._config, self._queues, self._tags)
            self._was_connected = True
            self._link.connected()
            if hub is not None:
                kombu_loops.serve_on_hub(consuming, connection, self._link, hub)
            else:
                kombu_loops.poll(consuming, connection, self._link)
            consuming.close()
            connection.release()
            return False
        except errors as error:
            logger.debug("the broker's connection broke", exc_info=True)
            return self._on_lost(connection, error, 0.0)
        except Exception as error:
            if not self._was_connected:
                raise
            # kombu's transports are of many hands: one message that a transport chokes on must not end the worker.
            logger.error("the broker's transport failed: %r", error, exc_info=True)
            return self._on_lost(connection, error, self._config.retry.interval_start_s)
        finally:
            if hub is not None:
                kombu_loops.close_hub(hub)

    def _on_lost(self, connection: Any, error: BaseException, wait_s: float) -> bool:
        retries = self._config.retry.retry
        self._link.disconnected(str(error) or repr(error), wait_s if retries else None)
        try:
            connection.collect(_COLLECT_S)
        except Exception:
            # What is left of a broken connection is of no interest.
            logger.debug("taking the broken connection apart", exc_info=True)
        if retries and wait_s:
            self._sleep(wait_s)
        return retries

    # -- connecting

    def _connect(self, connection: Any) -> bool:
        """Open the connection, trying again as the policy says; false if there is nothing left to try."""
        policy = self._config.retry
        attempts = 0
        wait_s = policy.interval_start_s
        while not self._is_stopping():
            try:
                connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                return True
            except connection.recoverable_connection_errors as error:
                may_retry = policy.retry if self._was_connected else policy.retry_on_startup
                is_last = policy.max_retries is not None and attempts >= policy.max_retries
                if not may_retry or is_last:
                    self._link.disconnected(str(error) or repr(error), None)
                    return False
                # The other servers of a list are tried at once.
                has_tried_all = connection.completes_cycle(attempts)
                self._link.disconnected(str(error) or repr(error), wait_s if has_tried_all else 0.0)
                connection.maybe_switch_next()
                attempts += 1
                if has_tried_all:
                    self._sleep(wait_s)
                    wait_s = min(wait_s + policy.interval_step_s, policy.interval_max_s)
        return False

    def _is_stopping(self) -> bool:
        """Ask, while there is no connection; queues that change meanwhile are taken up by the next one."""
        _demand, _settlements, changes, is_stopping = self._link.exchange([], 0)
        for index, name, is_active in changes:
            if is_active:
                self._queues[index] = name
            else:
                self._queues.pop(index, None)
        return is_stopping

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._is_stopping():
            self._link.wait(left)

"""The part of an application that gives out kombu's connections and producers, for everything that is no task."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker.app.configuring import Configuring
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.redacting import redacted

if TYPE_CHECKING:
    import threading

    from kombu.clocks import LamportClock

    from pyworker.app.events import Events


class Connecting(Configuring):
    """kombu connections and pools by the app's settings. Tasks are published natively and do not use them."""

    _lock: threading.RLock
    _pools: tuple[Any, Any] | None = None
    #: The process, the settings and the limit that the pools were made for.
    _pools_key: tuple[Any, ...] = ()
    _clock: LamportClock | None = None
    _events: Events | None = None

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """Return a new ``kombu.Connection`` for consuming, not opened yet; options as :meth:`connection`."""
        return self._connect(url or self.conf.broker_read_url or self.conf.broker_url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """Return a new ``kombu.Connection`` for publishing, not opened yet; options as :meth:`connection`."""
        return self._connect(url or self.conf.broker_write_url or self.conf.broker_url, **options)

    def connection(self, hostname: str | None = None, **options: Any) -> Any:
        """Return a new ``kombu.Connection``, not opened yet.

        Args:
            hostname: the broker's URL or host, if it is not the configured one.
            options: ``userid``, ``password``, ``virtual_host``, ``port``, ``ssl``, ``connect_timeout`` (seconds),
                ``transport``, ``transport_options``, ``heartbeat``, ``login_method``, ``failover_strategy``.

        Raises:
            ImproperlyConfigured: there is no such transport, or what it needs is not installed.
        """
        return self.connection_for_write(hostname, **options)

    broker_connection = connection

    def _connect(self, url: Any, **options: Any) -> Any:
        from kombu import Connection

        conf = self.conf
        given = {key: value for key, value in options.items() if value is not None}
        transport_options = {**(conf.broker_transport_options or {}), **(given.pop("transport_options", None) or {})}
        settings = {
            "userid": conf.broker_user, "password": conf.broker_password, "virtual_host": conf.broker_vhost,
            "port": conf.broker_port, "transport": conf.broker_transport, "ssl": conf.broker_use_ssl,
            "login_method": conf.broker_login_method, "failover_strategy": conf.broker_failover_strategy,
            "connect_timeout": conf.broker_connection_timeout,
            "credential_provider": transport_options.get("credential_provider"),
        }  # fmt: skip
        settings = {key: value for key, value in settings.items() if value is not None}
        urls = _urls_for_kombu(url or conf.broker_host)
        try:
            return Connection(urls, **{**settings, **given}, transport_options=transport_options)
        except (KeyError, ImportError) as error:
            raise ImproperlyConfigured(f"broker_url or broker_transport: {error.args[0]}") from error

    # -- pools

    @property
    def pool(self) -> Any:
        """The pool of connections, of at most ``broker_pool_limit``."""
        return self._both_pools()[0]

    @property
    def producer_pool(self) -> Any:
        """The pool of producers, each with a connection of :attr:`pool`."""
        return self._both_pools()[1]

    def _both_pools(self) -> tuple[Any, Any]:
        key = (os.getpid(), self.conf.broker_write_url or self.conf.broker_url, self.conf.broker_pool_limit)
        with self._lock:
            if self._pools is None or self._pools_key != key:
                # What a forked process inherited is left alone: closing it would end the parent's connections.
                from kombu.pools import ProducerPool

                connections = self.connection_for_write().Pool(limit=self.conf.broker_pool_limit)
                self._pools = connections, ProducerPool(connections, limit=self.conf.broker_pool_limit)
                self._pools_key = key
            return self._pools

    @contextmanager
    def connection_or_acquire(self, connection: Any = None, pool: bool = True) -> Iterator[Any]:
        """Give the connection, or one of the pool for the time of a ``with`` block.

        Args:
            connection: used if given.
            pool: take one of the pool; else a new one is opened and closed.

        Raises:
            OperationalError: all connections are in use for longer than ``broker_pool_acquire_timeout``.
        """
        if connection is not None:
            yield connection
        elif pool:
            with self._acquired(self.pool.acquire, "connection") as found:
                yield found
        else:
            with self.connection_for_write() as found:
                yield found

    default_connection = connection_or_acquire

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:
        """Give the producer, or one of the pool for the time of a ``with`` block.

        Raises:
            OperationalError: all are in use for longer than ``broker_pool_acquire_timeout``, or no connection.
        """
        if producer is not None:
            yield producer
        else:
            with self._acquired(self.producer_pool.acquire, "producer") as found:
                yield found

    default_producer = producer_or_acquire

    @contextmanager
    def _acquired(self, acquire: Callable[..., Any], what: str) -> Iterator[Any]:
        from kombu.exceptions import LimitExceeded
        from kombu.exceptions import OperationalError as KombuError

        timeout_s = self.conf.broker_pool_acquire_timeout
        try:
            found = acquire(block=True, timeout=timeout_s)
        except LimitExceeded as error:
            raise OperationalError(
                f"no broker {what} became free within {timeout_s} s: all {self.conf.broker_pool_limit} are in use "
                "(broker_pool_limit, broker_pool_acquire_timeout)"
            ) from error
        except (KombuError, OSError) as error:
            raise OperationalError(redacted(str(error))) from error
        try:
            yield found
        finally:
            found.release()

    # -- events

    @property
    def clock(self) -> LamportClock:
        """The logical clock that this app's events carry; in a worker it is the engine's."""
        if self._clock is None:
            # By name: who sends no events needs no clock.
            made = import_module("kombu.clocks").LamportClock()
            with self._lock:
                self._clock = self._clock or made
        return self._clock

    @property
    def events(self) -> Events:
        """Receiver, dispatcher and state of events, bound to this app."""
        if self._events is None:
            # By name: most programs have nothing to do with events.
            made = import_module("pyworker.app.events").Events(self)
            with self._lock:
                self._events = self._events or made
        return self._events

    def send_event(
        self, type_: str, *, hostname: str | None = None, retry: bool = True, retry_policy: Any = None, **fields: Any
    ) -> None:
        """Send an event to monitors.

        Args:
            type_: the event's type; what is before its first dash is its group.
            hostname: who sends it, this process if not given.
            retry, retry_policy: whether and how to try again.
            fields: what it carries.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """
        policy = retry_policy or self.conf.task_publish_retry_policy
        with self.events.default_dispatcher(hostname=hostname) as dispatcher:
            connection: Any = dispatcher.connection
            try:
                dispatcher.send(type_, retry=retry, retry_policy=policy, **fields)
            except (OSError, *connection.connection_errors, *connection.channel_errors) as error:
                raise OperationalError(str(error)) from error

    def _close_pools(self) -> None:
        with self._lock:
            pools, self._pools = self._pools, None
            is_ours = self._pools_key[:1] == (os.getpid(),)
        if pools is not None and is_ours:
            connections, producers = pools
            producers.force_close_all()
            connections.force_close_all()


def _urls_for_kombu(url: Any) -> Any:
    # By name: only who connects by kombu needs what reads the URLs.
    return import_module("pyworker.transport.kombu_url").urls_for_kombu(url)

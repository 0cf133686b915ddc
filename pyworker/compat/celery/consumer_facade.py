"""Celery's consumer with the engine in the place of its connection, timer and pool.

It is the installed Celery's own class, so the texts, signals and rules for unknown, undecodable and rejected messages
are that version's; only what would talk to a broker or a pool is replaced.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kombu.utils.imports import symbol_by_name

from pyworker.compat.celery.blueprints import ConsumerBlueprint

if TYPE_CHECKING:
    from collections.abc import Callable


class EngineTimer:
    """The worker's timer, except that a message's own time is the engine's business.

    A strategy schedules a message with an ETA by ``call_at``. The engine holds such messages itself, so the call is
    made at once; every other use goes to the real timer, whose thread starts with its first entry.
    """

    def __init__(self, timer: Any, is_engine_call: Callable[[Any], bool]) -> None:
        self._timer = timer
        self._is_engine_call = is_engine_call

    def call_at(self, eta: Any, fun: Any, args: Any = (), kwargs: Any = None, priority: int = 0) -> Any:
        """Call a message's hand-over now, schedule anything else."""
        if self._is_engine_call(fun):
            fun(*args, **(kwargs or {}))
            return None
        return self._timer.call_at(eta, fun, args, kwargs, priority=priority)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timer, name)


class _Prefetch(SimpleNamespace):
    """The prefetch count as ``inspect stats`` shows it; the engine's ledger is the real one."""

    def increment_eventually(self, _n: int = 1) -> None:
        """Nothing to do: scheduled messages do not count in the engine's prefetch."""

    def decrement_eventually(self, _n: int = 1) -> None:
        """Nothing to do, as above."""


def make_consumer(worker: Any, on_request: Callable[[Any], None]) -> Any:
    """Build the consumer of a worker.

    Args:
        worker: the worker facade, with its pool and timer.
        on_request: called when a strategy hands a request over for execution.
    """
    base = symbol_by_name(worker.consumer_cls)

    class Consumer(base):  # type: ignore[misc, valid-type]
        """The installed consumer class, or the application's own."""

        Blueprint = ConsumerBlueprint
        connection = None
        event_dispatcher = None
        task_consumer = None
        gossip = None
        heart = None

        def ensure_connected(self, conn: Any) -> Any:
            """Leave connecting to the first use; the engine watches the broker."""
            return conn

    Consumer.__module__, Consumer.__qualname__ = base.__module__, base.__qualname__
    consumer = Consumer(
        on_request,
        hostname=worker.hostname,
        init_callback=worker.ready_callback,
        initial_prefetch_count=worker.concurrency * worker.prefetch_multiplier,
        pool=worker.pool,
        timer=worker.timer,
        app=worker.app,
        controller=worker,
        hub=None,
        worker_options=worker.options,
        # Rate limits are not the strategy's business here: it would hold the message in a bucket of its own.
        disable_rate_limits=True,
        prefetch_multiplier=worker.prefetch_multiplier,
        task_events=worker.task_events,
    )
    handovers = (consumer.apply_eta_task, consumer._limit_post_eta)
    consumer.timer = EngineTimer(worker.timer, lambda fun: fun in handovers)
    consumer.qos = _Prefetch(value=worker.concurrency * worker.prefetch_multiplier)
    # Events are not sent yet; a dispatcher that is off lets Celery's code ask for it as usual.
    consumer.event_dispatcher = worker.app.events.Dispatcher(
        worker.app.connection_for_write(), hostname=worker.hostname, enabled=False
    )
    return consumer

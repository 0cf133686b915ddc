"""Celery's consumer with the engine in the place of its connection, timer and pool.

It is the installed Celery's own class, so the texts, signals and rules for unknown, undecodable and rejected messages
are that version's; only what would talk to a broker or a pool is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.utils.imports import symbol_by_name

from pyworker.compat.celery.blueprints import ConsumerBlueprint
from pyworker.compat.celery.events import make_dispatcher
from pyworker.compat.celery.queue_changes import QueueChanges
from pyworker.worker.repeater import Repeater

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine


class EngineTimer:
    """The worker's timer, except that a message's own time is the engine's business.

    A strategy schedules a message with an ETA by ``call_at``. The engine holds such messages itself, so the call is
    made at once; every other use goes to the real timer, whose thread starts with its first entry.
    """

    def __init__(self, timer: Any) -> None:
        self._timer = timer
        self._is_engine_call: Callable[[Any], bool] = lambda _fun: False
        # Celery's own timer looks at its entries every second, and makes a stop wait for that.
        self._repeater = Repeater("pyworker-timer")

    def call_at(self, eta: Any, fun: Any, args: Any = (), kwargs: Any = None, priority: int = 0) -> Any:
        """Call a message's hand-over now, schedule anything else."""
        if self._is_engine_call(fun):
            fun(*args, **(kwargs or {}))
            return None
        return self._timer.call_at(eta, fun, args, kwargs, priority=priority)

    def call_repeatedly(self, secs: float, fun: Any, args: Any = (), kwargs: Any = None, priority: int = 0) -> Any:
        """Call a function every ``secs`` seconds, from a thread of this timer."""
        return self._repeater.call_repeatedly(secs, fun, args, kwargs)

    def cancel(self, entry: Any) -> None:
        """Never call this again."""
        entry.cancel()

    def stop_repeating(self) -> None:
        """End what is called repeatedly."""
        self._repeater.stop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timer, name)


class _Prefetch:
    """The prefetch count as ``inspect stats`` shows it; the engine's ledger is the real one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.engine: Engine | None = None

    @property
    def value(self) -> int:
        """Celery's count, which grows by every message that waits for its time; 0 is no limit."""
        scheduled = self.engine.counters().get("eta_held", 0) if self.engine is not None else 0
        return self._count + scheduled if self._count else 0

    def increment_eventually(self, n: int = 1) -> None:
        """Raise it, as a larger pool does."""
        if self._count:
            self._count += n

    def decrement_eventually(self, n: int = 1) -> None:
        """Lower it, but not to nothing."""
        if self._count:
            self._count = max(self._count - n, 1)


def make_consumer(worker: Any, on_request: Callable[[Any], None]) -> Any:
    """Build the consumer of a worker.

    Args:
        worker: the worker facade, with its pool and timer.
        on_request: called when a strategy hands a request over for execution.
    """
    base = symbol_by_name(worker.consumer_cls)

    class Consumer(QueueChanges, base):  # type: ignore[misc, valid-type]
        """The installed consumer class, or the application's own."""

        Blueprint = ConsumerBlueprint
        connection = None
        event_dispatcher = None
        task_consumer = None
        gossip = None
        heart = None
        mingle = None

        def ensure_connected(self, conn: Any) -> Any:
            """Leave connecting to the first use; the engine watches the broker."""
            return conn

    Consumer.__module__, Consumer.__qualname__ = base.__module__, base.__qualname__
    timer = EngineTimer(worker.timer)
    prefetch_count = (worker.max_concurrency or worker.concurrency) * worker.prefetch_multiplier
    consumer = Consumer(
        on_request,
        hostname=worker.hostname,
        init_callback=worker.ready_callback,
        initial_prefetch_count=prefetch_count,
        pool=worker.pool,
        timer=timer,
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
    timer._is_engine_call = lambda fun: fun in handovers
    consumer.qos = _Prefetch(prefetch_count)
    consumer.event_dispatcher = make_dispatcher(consumer, task_events=bool(worker.task_events))
    return consumer

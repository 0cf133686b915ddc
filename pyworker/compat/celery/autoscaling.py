"""The application's autoscaler with the engine's queue and pool behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker.autoscale import Autoscaler
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from pyworker.compat.celery.pool_facade import EnginePool


def autoscaler_class(name: Any, pool: EnginePool) -> type:
    """Return the autoscaler to use: the named class, which counts requests, told by the engine what there is.

    Args:
        name: the ``worker_autoscaler`` setting, a class or its path.
        pool: the view of the engine's pool.
    """
    base: Any = symbol_by_name(name)
    if base.qty is not Autoscaler.qty:
        named: type = base
        return named

    class EngineAutoscaler(base):
        """Celery's or the application's autoscaler; its quantity is the engine's."""

        _received = 0

        @property
        def qty(self) -> int:
            """Tasks that run or wait for the pool."""
            counters = pool.counters()
            # An engine that has stopped counts nothing.
            received = counters.get("received", self._received)
            if received != self._received and hasattr(self, "on_task_received"):
                # Upstream's consumer tells of every message; once a look is enough for a pause of 30 s.
                self._received = received
                self.on_task_received(None)
            return counters.get("pending", 0)

    EngineAutoscaler.__module__, EngineAutoscaler.__qualname__ = base.__module__, base.__qualname__
    return EngineAutoscaler

"""The pool as Celery's own code, boot steps and control commands see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.concurrency.base import BasePool

from pyworker.worker.control_commands import pool_statistics, solo_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine
    from pyworker.compat.celery.calls import CallDesk


class EnginePool(BasePool):
    """A view of the engine's children; jobs never pass through it.

    Args:
        limit: number of children.
        implementation: what ``inspect stats`` shows, Celery's name of the pool.
        max_tasks_per_child: as configured.
        timeouts: soft and hard limit of the worker, in seconds.
        jobs_of: names the task ids that a child runs now.
    """

    signal_safe = False
    is_green = False
    uses_semaphore = False

    def __init__(
        self,
        limit: int,
        *,
        implementation: str,
        max_tasks_per_child: int | None,
        timeouts: tuple[float | None, float | None],
        jobs_of: Callable[[int], list[str]],
        **options: Any,
    ) -> None:
        super().__init__(limit, **options)
        self._implementation = implementation
        self._max_tasks_per_child = max_tasks_per_child
        self._timeouts = timeouts
        self._jobs_of = jobs_of
        self.engine: Engine | None = None
        self.calls: CallDesk | None = None

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Signal the child if it runs a job now."""
        if self.engine is not None:
            self.engine.terminate(self._jobs_of(pid), signal=int(signal or 15))

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Have a child run a function; see :meth:`CallDesk.submit`."""
        assert self.calls is not None, "the pool does not run yet"
        return self.calls.submit(target, args, kwargs, **options)

    @property
    def is_solo(self) -> bool:
        """Whether tasks run in the main process."""
        return self._implementation.startswith("celery.concurrency.solo")

    def counters(self) -> dict[str, int]:
        """Return the engine's counters, none before it exists."""
        return self.engine.counters() if self.engine is not None else {}

    @property
    def num_processes(self) -> int:
        """How many children there are to be."""
        return self.counters().get("pool_size", int(self.limit or 1))

    def grow(self, n: int = 1) -> None:
        """Add children.

        Raises:
            NotImplementedError: the pool is the main process.
        """
        self._require_processes()
        if self.engine is not None:
            self.engine.grow(n)

    def shrink(self, n: int = 1) -> None:
        """Let children go that run nothing.

        Raises:
            NotImplementedError: the pool is the main process.
            ValueError: fewer than ``n`` were idle; those are gone.
        """
        self._require_processes()
        if self.engine is not None and self.engine.shrink(n) < n:
            raise ValueError("Can't shrink pool. All processes busy!")

    def restart(self) -> None:
        """Replace every child once its task is done."""
        self._require_processes()
        if self.engine is not None:
            self.engine.restart_children()

    def _require_processes(self) -> None:
        if self.is_solo:
            raise NotImplementedError("solo runs tasks in the main process; there are no children")

    def _get_info(self) -> dict[str, Any]:
        if self.is_solo:
            return solo_statistics(self._implementation)
        children = self.engine.children() if self.engine is not None else []
        soft_s, hard_s = self._timeouts
        return pool_statistics(
            self._implementation, children, self.limit, self._max_tasks_per_child, (soft_s or 0, hard_s or 0)
        )

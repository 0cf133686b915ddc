"""``celery.worker.state.revoked`` stays the truth: what is added to it reaches the engine at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.collections import LimitedSet
from celery.worker import state

if TYPE_CHECKING:
    from pyworker._native import Engine


class WatchedSet(LimitedSet):
    """A set of revoked ids that tells the engine of new ones.

    Celery's modules keep references to the set object itself, so the object stays and only its class changes.
    """

    #: The engine; one worker per process, as Celery's own module-level state.
    engine: Engine | None = None

    def add(self, item: Any, now: float | None = None) -> None:
        """Add an id and tell the engine."""
        super().add(item, now)
        if self.engine is not None:
            self.engine.revoke([str(item)])

    def update(self, other: Any) -> None:
        """Add many ids and tell the engine once."""
        other = other if isinstance(other, LimitedSet | dict) else list(other)
        engine, self.engine = self.engine, None
        try:
            super().update(other)
        finally:
            self.engine = engine
        if engine is not None and len(other):
            engine.revoke([str(item) for item in other])

    def __reduce__(self) -> Any:
        """Pickle as the plain set: the state database is read by stock workers too."""
        return LimitedSet, (self.maxlen, self.expires, self.as_dict(), self.minlen)


def watch_revoked(engine: Engine) -> None:
    """Tell the engine of what is revoked now and of whatever will be."""
    revoked = state.revoked
    revoked.__class__ = WatchedSet
    revoked.engine = engine
    if len(revoked):
        engine.revoke([str(item) for item in revoked])


def unwatch_revoked() -> None:
    """Give the set its own class back."""
    revoked = state.revoked
    if isinstance(revoked, WatchedSet):
        revoked.__dict__.pop("engine", None)
        revoked.__class__ = LimitedSet

"""The application's logical clock, kept by the engine: events that it builds and those of Celery's code share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.clocks import LamportClock

if TYPE_CHECKING:
    from pyworker._native import Engine


class EngineClock(LamportClock):  # type: ignore[misc]
    """A Lamport clock whose value is the engine's.

    Modules keep references to the clock object itself, so the object stays and only its class changes.
    """

    engine: Engine

    @property
    def value(self) -> int:
        """The time."""
        return self.engine.clock()

    @value.setter
    def value(self, value: int) -> None:
        # A state database's clock, read before the engine existed, or set by hand.
        if value > self.engine.clock():
            self.engine.adjust_clock(value - 1)

    def adjust(self, other: int) -> int:
        """Move past another node's time."""
        return self.engine.adjust_clock(other or 0)

    def forward(self) -> int:
        """Move by one."""
        return self.engine.forward_clock()


def let_engine_keep(clock: LamportClock, engine: Engine) -> None:
    """Put the engine behind an application's clock."""
    value = clock.value
    if not isinstance(clock, EngineClock):
        del clock.__dict__["value"]
        clock.__class__ = EngineClock
    assert isinstance(clock, EngineClock)
    clock.engine = engine
    clock.value = value

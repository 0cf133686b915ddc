"""The autoscaler's rules, and its option."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pyworker.worker.autoscale import Autoscaler, bounds


@dataclass
class Counting:
    """An engine of which only the pool's size and the number of tasks are known."""

    pending: int = 0
    pool_size: int = 1
    received: int = 0
    calls: list[tuple[str, int]] = field(default_factory=list)

    def counters(self) -> dict[str, int]:
        return {"pending": self.pending, "pool_size": self.pool_size, "received": self.received}

    def grow(self, count: int) -> int:
        self.calls.append(("grow", count))
        self.pool_size += count
        return self.pool_size

    def shrink(self, count: int) -> int:
        self.calls.append(("shrink", count))
        self.pool_size -= count
        return count


def scaler(engine: Counting, *, keepalive_s: float = 1000.0) -> Autoscaler:
    return Autoscaler(cast("Any", engine), 4, 1, keepalive_s=keepalive_s)


def test_the_pool_grows_to_what_waits_and_no_further() -> None:
    engine = Counting(pending=3)
    subject = scaler(engine)
    subject.maybe_scale()
    engine.pending = 50
    subject.maybe_scale()
    subject.maybe_scale()
    assert engine.calls == [("grow", 2), ("grow", 1)]


def test_the_pool_shrinks_when_it_was_not_needed_for_a_while() -> None:
    engine = Counting(pending=4)
    subject = scaler(engine)
    subject.maybe_scale()
    engine.pending = 0
    subject.maybe_scale()
    assert engine.calls == [("grow", 3)]
    subject.keepalive_s = -1.0
    subject.maybe_scale()
    assert engine.calls[-1] == ("shrink", 3)


def test_other_bounds_act_at_once() -> None:
    engine = Counting(pool_size=3)
    subject = scaler(engine)
    assert subject.update(2, None) == (2, 1)
    assert subject.update(8, 5) == (8, 5)
    assert engine.calls == [("shrink", 1), ("grow", 3)]
    assert subject.info() == {"max": 8, "min": 5, "current": 5, "qty": 0}


@pytest.mark.parametrize(("text", "expected"), [("10,3", (10, 3)), ("4", (4, 0)), ("2,2", (2, 2))])
def test_bounds_are_read(text: str, expected: tuple[int, int]) -> None:
    assert bounds(text) == expected


@pytest.mark.parametrize("text", ["", "x", "1,2", "0", "3,-1", "2,y"])
def test_bad_bounds_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bounds(text)


def test_an_engine_that_has_stopped_counts_nothing_and_nothing_is_scaled() -> None:
    class Stopped(Counting):
        def counters(self) -> dict[str, int]:
            return {}

    engine = Counting(received=3)
    looking = scaler(engine)
    assert looking.qty == 0
    looking.engine = cast("Any", Stopped())
    assert looking.qty == 0

"""The clock that every store's waiting shares."""

from __future__ import annotations

import pytest

from pyworker.backends.wait_clock import INTERVAL_S, WaitClock
from pyworker.exceptions import TimeoutError
from support.waiting import eventually


def test_a_wait_without_limit_is_never_over() -> None:
    clock = WaitClock(None, None)
    clock.require_time()
    assert not clock.is_over()
    assert clock.bounded_s(1e6) == 1e6
    assert 0.0 <= clock.step_s() <= INTERVAL_S


def test_a_wait_ends_with_celerys_error() -> None:
    clock = WaitClock(0.0, None)
    assert clock.is_over()
    assert clock.step_s() == clock.bounded_s(5.0) == 0.0
    with pytest.raises(TimeoutError, match="The operation timed out."):
        clock.require_time()


def test_steps_and_pauses_end_with_the_wait() -> None:
    clock = WaitClock(1000.0, None, interval_s=5000.0)
    assert 0.0 < clock.step_s() <= 1000.0
    assert 0.0 < clock.bounded_s(5000.0) <= 1000.0
    assert clock.bounded_s(2.0) == 2.0


def test_each_interval_is_told_of_once() -> None:
    ended: list[bool] = []
    clock = WaitClock(None, lambda: ended.append(True), interval_s=0.01)
    eventually(clock.tick, what="the interval is over")
    assert len(ended) == 1
    eventually(clock.tick, what="so is the next one")
    assert len(ended) == 2


def test_an_interval_that_has_not_ended_is_not_told_of() -> None:
    ended: list[bool] = []
    clock = WaitClock(None, lambda: ended.append(True), interval_s=1000.0)
    assert not clock.tick()
    clock.begin_interval()
    assert not clock.tick()
    assert ended == []

"""Receivers of signals that are called until they succeed (``connect(retry=True)``)."""

from __future__ import annotations

import gc
from typing import Any

import celery.utils.dispatch.signal
import kombu.utils.functional
import pytest

from pyworker import dispatch

SIGNALS = {
    "ours": lambda: dispatch.Signal("started"),
    "celery's": lambda: celery.utils.dispatch.signal.Signal(providing_args=set(), name="started"),
}


@pytest.fixture
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(dispatch.time, "sleep", found.append)
    # Celery waits a second at a time.
    monkeypatch.setattr(kombu.utils.functional, "sleep", found.append)
    return found


@pytest.mark.parametrize("side", SIGNALS)
def test_a_failing_receiver_is_called_until_it_succeeds(side: str, waits_s: list[float]) -> None:
    signal: Any = SIGNALS[side]()
    heard = []

    def connect_strongly() -> None:
        @signal.connect(retry=True)
        def receive(sender: Any = None, **named: Any) -> str:
            heard.append((sender, named["number"]))
            if len(heard) < 4:
                raise ConnectionError("not yet")
            return "at last"

    connect_strongly()
    gc.collect()
    ((_, answer),) = signal.send(sender="me", number=1)
    assert answer == "at last"
    assert heard == [("me", 1)] * 4
    assert sum(waits_s) == 2 + 4 + 6


@pytest.mark.parametrize("side", SIGNALS)
def test_such_a_receiver_is_disconnected_as_itself(side: str) -> None:
    signal: Any = SIGNALS[side]()

    def receive(**_named: Any) -> None:
        raise AssertionError("it was disconnected")

    signal.connect(receive, retry=True)
    assert signal.has_listeners() if side == "ours" else signal.receivers
    assert signal.disconnect(receive)
    assert signal.send(sender=None) == []

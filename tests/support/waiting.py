"""Waiting for a condition with a deadline; the only place of the tests that polls."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def eventually(probe: Callable[[], Value], *, deadline_s: float = 20.0, what: str = "") -> Value:
    """Return the first truthy value of ``probe``, asking with a growing pause until the deadline.

    Args:
        probe: asked at least once; an ``AssertionError`` of it counts as "not yet" and is kept for the failure text.
        deadline_s: seconds until the wait fails.
        what: what is waited for, for the failure text.

    Raises:
        AssertionError: the deadline passed.
    """
    pause = threading.Event()
    pause_s = _FIRST_PAUSE_S
    end = time.monotonic() + deadline_s
    value: Value | None = None
    refusal: AssertionError | None = None
    while True:
        try:
            value = probe()
            refusal = None
        except AssertionError as error:
            refusal = error
        if refusal is None and value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(
                f"not within {deadline_s} s: {what or probe!r}; last seen: {refusal or repr(value)}"
            ) from refusal
        pause.wait(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

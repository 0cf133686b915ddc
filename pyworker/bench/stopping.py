"""Ends a bench on SIGTERM the way Ctrl-C does, so that no server and no worker is left behind."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT_CODE_OF_SIGTERM = 128 + signal.SIGTERM


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(_EXIT_CODE_OF_SIGTERM)


@contextlib.contextmanager
def clean_end_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit inside the block; main thread only."""
    previous = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

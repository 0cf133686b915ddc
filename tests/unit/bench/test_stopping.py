"""SIGTERM ends a bench like Ctrl-C."""

from __future__ import annotations

import os
import signal

import pytest

from pyworker.bench.stopping import clean_end_on_sigterm


def test_sigterm_unwinds_the_block_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    unwound = False
    with pytest.raises(SystemExit) as caught, clean_end_on_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)
        finally:
            unwound = True
    assert unwound
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before

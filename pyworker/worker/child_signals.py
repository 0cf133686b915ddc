"""What signals do in a child: they end it, or its task, by an exception in the main thread.

An exception that comes between two bytecodes can lose a lock: ``with condition:`` goes through Python code of
``threading``, and what is raised there after the lock was taken, or before it is given back, leaves it locked for ever.
Every queue and every pool of connections has such a lock, and the clean-up that the exception sets off takes it again.
So there the exception is put off until that code is left, and a child that does not get to its end is ended without
further clean-up, unless the task caught the exception and is over: what runs then is another one.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from pyworker.worker.signals import CHILD_DUMP_SIGNAL, all_stacks, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pyworker._native import ChildLink
    from pyworker.worker.protocol import TaskRunner

#: A second signal while the first one's exception was on its way.
_EXIT_SOFTWARE = 70
_TERMINATING = ("SIGTERM", "SIGQUIT", "SIGHUP")
#: How long the clean-up after a terminating signal may take.
_LEAVING_S = 20.0
#: How much later a signal comes again that came between two bytecodes of a lock.
_SOON_S = 0.005
_LOCK_CODE = frozenset({threading.Condition.__enter__.__code__, threading.Condition.__exit__.__code__})


def install_signal_handlers(link: ChildLink, runner: TaskRunner) -> None:
    """Install the handlers of a child, in its main thread, after the library's own initialisation."""
    remapped = os.environ.get("REMAP_SIGTERM")
    leave = _Leave(link)
    for name in {*_TERMINATING, remapped} if remapped else _TERMINATING:
        number = getattr(signal, str(name))
        # What the library chose to ignore stays ignored; QUIT is the way out where TERM was remapped to it.
        if signal.getsignal(number) is not signal.SIG_IGN or (remapped and name == "SIGQUIT"):
            signal.signal(number, leave)
    if remapped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    soft_timeout_hit, error = link.soft_timeout_hit, runner.soft_time_limit_error

    def on_soft_timeout(number: int, frame: FrameType | None) -> None:
        if not _put_off(link, number, frame) and soft_timeout_hit():
            raise error()

    signal.signal(signal.SIGUSR1, on_soft_timeout)
    signal.signal(CHILD_DUMP_SIGNAL, _write_stacks)


class _Leave:
    """The handler of the terminating signals."""

    def __init__(self, link: ChildLink) -> None:
        self._link = link
        self._is_leaving = False
        self._is_watched = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_leaving:
            os._exit(_EXIT_SOFTWARE)
        if not self._is_watched:
            self._is_watched = True
            _start(partial(_end_for_sure, self._link, self._link.running()), number)
        if _put_off(self._link, number, frame):
            return
        self._is_leaving = True
        signal.signal(number, signal.SIG_DFL)
        # Billiard's code: the low byte, all that a parent sees, is the signal's number.
        sys.exit(number - 256)


def _put_off(link: ChildLink, number: int, frame: FrameType | None) -> bool:
    """Have a signal come again soon if a lock would be lost now; returns whether that is so."""
    is_put_off = frame is not None and frame.f_code in _LOCK_CODE and _start(_send_again, number)
    link.set_put_off(is_put_off)
    return is_put_off


def _start(call: Callable[[int], None], number: int) -> bool:
    """Call it in another thread; returns whether there can be one."""
    try:
        # Not a Thread: starting one takes locks, which the interrupted code may have.
        _thread.start_new_thread(call, (number,))
    except RuntimeError:
        return False
    return True


def _send_again(number: int) -> None:
    time.sleep(_SOON_S)
    os.kill(os.getpid(), number)


def _end_for_sure(link: ChildLink, sequence: int, number: int) -> None:
    time.sleep(_LEAVING_S)
    if link.running() != sequence:
        return
    say(f"process {os.getpid()}: no end {_LEAVING_S:g} s after signal {number}, exiting without clean-up", descriptor=2)
    os._exit(number)


def _write_stacks(_number: int, frame: FrameType | None) -> None:
    say(f"CHILD {os.getpid()}\n{'=' * 49}\n{all_stacks(frame)}", descriptor=2)

"""What Linux lets a process say about its relatives: who inherits orphans, and what the death of a parent means."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Become the parent of every orphan below this process. Not inherited by forks."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(number: int) -> None:
    """Receive this signal when the present parent dies, 0 for none. Cleared by a fork, kept over re-parenting."""
    _prctl(_PR_SET_PDEATHSIG, number)


def die_with_parent(parent_pid: int) -> None:
    """Tie this process's life to its parent's, or end now if the parent is gone already."""
    set_parent_death_signal(signal.SIGKILL)
    # The parent may have died before the line above; then nobody would send the signal any more.
    if os.getppid() != parent_pid:
        os._exit(0)


def wait_until_adopted(forker_pid: int, parent_pid: int) -> None:
    """Second half of a double fork: wait until the process that forked us has ended and ``parent_pid`` has us.

    The forker exits right after the fork, so this is a matter of microseconds and the processor is given away
    instead of sleeping.
    """
    while os.getppid() == forker_pid:
        os.sched_yield()
    die_with_parent(parent_pid)

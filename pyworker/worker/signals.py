"""The parent's signal handlers. A handler notes the signal and wakes the loop; nothing is decided inside it.

Two exceptions, both for people who debug: the stack dump of SIGUSR1 and the debugger of SIGUSR2 want the frame
that was interrupted.
"""

from __future__ import annotations

import io
import os
import pprint
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

#: Handed to the shutdown rules.
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT")
RESTART_SIGNAL = "SIGHUP"
#: The stacks are written at once; what the children run is for the loop to tell.
DUMP_SIGNAL = "SIGUSR1"
#: Has a child that runs a task write its stacks. Not SIGUSR1, which is the soft time limit there.
CHILD_DUMP_SIGNAL = signal.SIGRTMIN + 11
_SEPARATOR = "=" * 49

#: Starts a debugger at a frame.
Debugger = Callable[[FrameType | None], None]


class SignalInbox:
    """Signals that arrived and were not handled yet. ``install`` and ``restore`` belong to the main thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._pending: deque[str] = deque()
        self._previous: dict[int, Any] = {}

    def install(self, *, restarts: bool, debugger: Debugger | None = None) -> None:
        """Take over the worker's signals.

        Args:
            restarts: whether SIGHUP is ours; off when a terminal is there, whose closing must end the worker.
            debugger: what SIGUSR2 starts; left alone without one.
        """
        for name in STOP_SIGNALS + ((RESTART_SIGNAL,) if restarts else ()):
            self._set(name, self._note)
        self._set(DUMP_SIGNAL, self._dump)
        if debugger is not None:
            start_debugger = debugger
            self._set("SIGUSR2", lambda _number, frame: start_debugger(frame))

    def restore(self) -> None:
        """Put back the handlers that were there before. Idempotent."""
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def take(self) -> list[str]:
        """The names of the signals since the last call, in the order of arrival."""
        names: list[str] = []
        while self._pending:
            names.append(self._pending.popleft())
        return names

    def _set(self, name: str, handler: Callable[[int, FrameType | None], None]) -> None:
        number = getattr(signal, name)
        self._previous[number] = signal.signal(number, handler)

    def _dump(self, number: int, frame: FrameType | None) -> None:
        say(all_stacks(frame), descriptor=2)
        self._note(number, frame)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._pending.append(signal.Signals(number).name)
        self._wake()


def say(text: str, descriptor: int = 1) -> None:
    """Write a line to a standard stream past all buffers and redirections; losing it is no failure."""
    try:
        os.write(descriptor, f"\n{text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


def _shown(values: Mapping[str, Any]) -> str:
    """Local variables as text. What was interrupted may be half made and unable to show itself; it is to go on."""
    try:
        return pprint.pformat(values)
    except Exception:
        return "\n".join(f"{name}: {_shown_alone(value)}" for name, value in values.items())


def _shown_alone(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def all_stacks(interrupted: FrameType | None = None) -> str:
    """The stacks and local variables of all threads of this process, as text.

    Args:
        interrupted: what a signal handler interrupted; shown for the calling thread instead of the handler itself.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    out = io.StringIO()
    for identifier, current in sys._current_frames().items():
        frame = current
        if identifier not in names:
            continue  # left over from before a fork
        if interrupted is not None and identifier == threading.get_ident():
            frame = interrupted
        print(names[identifier], _SEPARATOR, sep="\n", file=out)
        traceback.print_stack(frame, file=out)
        print(_SEPARATOR, "LOCAL VARIABLES", _SEPARATOR, sep="\n", file=out)
        print(_shown(frame.f_locals), file=out)
        print("\n", file=out)
    return out.getvalue()

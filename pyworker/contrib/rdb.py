"""A debugger to reach over the network, for tasks in a worker's children::

    from pyworker.contrib import rdb

    @app.task
    def add(x, y):
        result = x + y
        rdb.set_trace()
        return result

The task waits and logs a port of 127.0.0.1; ``telnet`` or ``nc`` to it. ``CELERY_RDB_HOST`` and ``CELERY_RDB_PORT``
say where else: whoever reaches that port can run anything.
"""

from __future__ import annotations

import os
import socket
import sys
from pdb import Pdb
from types import FrameType
from typing import IO, Any

__all__ = ["CELERY_RDB_HOST", "CELERY_RDB_PORT", "DEFAULT_PORT", "Rdb", "debugger", "set_trace"]

DEFAULT_PORT = 6899
CELERY_RDB_HOST = os.environ.get("CELERY_RDB_HOST") or "127.0.0.1"
CELERY_RDB_PORT = int(os.environ.get("CELERY_RDB_PORT") or DEFAULT_PORT)

_current: Rdb | None = None


class Rdb(Pdb):
    """The debugger; waits for one client.

    Args:
        host, port: where to listen.
        port_search_limit: how many ports above it to try.
        out: who is told where it listens.

    Raises:
        OSError: none of the ports is free.
    """

    def __init__(
        self, host: str = CELERY_RDB_HOST, port: int = CELERY_RDB_PORT, port_search_limit: int = 100,
        out: IO[str] | None = None,
    ) -> None:  # fmt: skip
        self._out = out if out is not None else sys.stdout
        self._before = sys.stdin, sys.stdout
        self.active = True
        with _listening(host, port, port_search_limit) as listener:
            self.host, self.port = listener.getsockname()[:2]
            self._say(f"Remote Debugger:{self.port}: Ready to connect: telnet {self.host} {self.port}")
            self._client, address = listener.accept()
        self._say(f"Remote Debugger:{self.port}: Now in session with {address[0]}:{address[1]}.")
        # Two files: one for both ways would forget what it had read ahead whenever it writes.
        self._streams: Any = self._client.makefile("r"), self._client.makefile("w")
        sys.stdin, sys.stdout = self._streams
        super().__init__(completekey="tab", stdin=sys.stdin, stdout=sys.stdout)

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def close(self) -> None:
        """End the session."""
        if not self.active:
            return
        self.active = False
        self.stdin, self.stdout = sys.stdin, sys.stdout = self._before
        for stream in self._streams:
            stream.close()
        self._client.close()
        self._say(f"Remote Debugger:{self.port}: Session ended.")

    def do_continue(self, arg: str) -> bool | None:
        """Let the task go on."""
        self.close()
        self.set_continue()
        return True

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool | None:
        """End the session; the task goes on, for ending it would end the worker's child."""
        self.close()
        sys.settrace(None)
        return True

    do_q = do_exit = do_quit

    def set_quit(self) -> None:
        """Stop tracing; what pdb would raise nobody could catch."""
        sys.settrace(None)


def _listening(host: str, port: int, count: int) -> socket.socket:
    for candidate in range(port, port + count):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
        except OSError:
            listener.close()
            continue
        listener.listen(1)
        return listener
    raise OSError(
        f"Remote Debugger: none of the ports {port} to {port + count - 1} of {host} is free (CELERY_RDB_PORT)"
    )


def debugger() -> Rdb:
    """Return the session that is open, or wait for one."""
    global _current
    if _current is None or not _current.active:
        _current = Rdb()
    return _current


def set_trace(frame: FrameType | None = None) -> None:
    """Stop here, or in a frame, and wait for a client."""
    return debugger().set_trace(frame if frame is not None else sys._getframe().f_back)

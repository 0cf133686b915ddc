"""A TCP proxy that delays every byte by half a round trip in each direction.

Run as a process of its own: ``python -m pyworker.bench.delay_proxy TARGET_PORT RTT_MS``; it prints its port and
ends when its standard input closes. Unlike ``tc netem`` it needs no privileges and touches one program only.
``select.select`` and not epoll: its timeout counts in microseconds, epoll's in milliseconds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK_BYTES = 1 << 18


@dataclass(kw_only=True)
class _Direction:
    """Bytes on their way from one socket to another."""

    source: socket.socket
    target: socket.socket
    #: (time at which it is due, data); an empty chunk is the end of the stream.
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    is_open: bool = True

    def receive(self, now: float, delay_s: float) -> None:
        try:
            data = self.source.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_open = False
        self.waiting.append((now + delay_s, data))

    def deliver(self, now: float) -> None:
        while self.waiting and self.waiting[0][0] <= now:
            due, data = self.waiting.popleft()
            if not data:
                with contextlib.suppress(OSError):
                    self.target.shutdown(socket.SHUT_WR)
                continue
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.waiting.clear()
                self.is_open = False
                return
            if sent < len(data):
                self.waiting.appendleft((due, data[sent:]))
                return


def _accept(listener: socket.socket, target: tuple[str, int], directions: list[_Direction]) -> None:
    client, _address = listener.accept()
    try:
        server = socket.create_connection(target)
    except OSError:
        client.close()
        return
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    directions.append(_Direction(source=client, target=server))
    directions.append(_Direction(source=server, target=client))


def _drop_finished(directions: list[_Direction]) -> list[_Direction]:
    kept: list[_Direction] = []
    for there, back in zip(directions[::2], directions[1::2], strict=True):
        if there.is_open or back.is_open or there.waiting or back.waiting:
            kept += [there, back]
        else:
            there.source.close()
            back.source.close()
    return kept


def serve(target: tuple[str, int], rtt_s: float) -> None:
    """Proxy until standard input closes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    directions: list[_Direction] = []
    delay_s = rtt_s / 2
    while True:
        due = min((direction.waiting[0][0] for direction in directions if direction.waiting), default=None)
        timeout_s = None if due is None else max(due - time.monotonic(), 0.0)
        by_source = {direction.source: direction for direction in directions if direction.is_open}
        blocked = [item.target for item in directions if item.waiting and item.waiting[0][0] <= time.monotonic()]
        watched: list[Any] = [listener, sys.stdin, *by_source]
        readable, _writable, _failed = select.select(watched, [], [], timeout_s)
        if blocked and not readable:  # a full target: wait for room instead of spinning
            select.select([], blocked, [], 0.001)
        now = time.monotonic()
        for ready in readable:
            if ready is listener:
                _accept(listener, target, directions)
            elif ready is sys.stdin:
                return
            else:
                by_source[ready].receive(now, delay_s)
        for direction in directions:
            direction.deliver(time.monotonic())
        directions = _drop_finished(directions)


class DelayProxy:
    """The proxy as a child process; ``port`` is where it listens."""

    def __init__(self, target_host: str, target_port: int, rtt_ms: float) -> None:
        self._arguments = [target_host, str(target_port), str(rtt_ms)]
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> DelayProxy:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyworker.bench.delay_proxy", *self._arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the delay proxy did not start")
        self.port = int(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    serve((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]) / 1000)

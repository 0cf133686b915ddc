"""What task events cost: drain rates without ``-E``, with it, and with somebody who reads the events, in turn."""

from __future__ import annotations

import socket
import statistics
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pyworker.bench.options import BenchOptions
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_ROUNDS = 7
_OPTIONS = BenchOptions(idle_round_trips=0, idle_cpu_s=0.0, load_s=0.0, publish_sample=200)
#: Rows of the table: whether events are sent, and whether they are read.
_VARIANTS = {"without events": (False, False), "with -E": (True, False), "with -E, read by a monitor": (True, True)}


def measure_events(tasks: int, console: Console, *, rounds: int = _ROUNDS) -> dict[str, dict[str, float]]:
    """Return for each variant the medians over the rounds, and the drain rate's share of that without events.

    Args:
        tasks: how many tasks each round has.
        console: where progress is shown.
        rounds: how often each variant has its turn.

    Raises:
        BenchError: a run failed, or a result was wrong.
    """
    console.rule("events")
    rates: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    costs: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    for _round in range(rounds):
        for name, (sends, reads) in _VARIANTS.items():
            rate, cost = _measured(tasks, console, sends=sends, reads=reads)
            rates[name].append(rate)
            costs[name].append(cost)
    base = statistics.median(rates["without events"])
    found = {
        name: {
            "drain_per_s": statistics.median(rates[name]),
            "share_of_without": statistics.median(rates[name]) / base,
            "cpu_ms_per_1000": statistics.median(costs[name]) * 1000,
        }
        for name in _VARIANTS
    }
    for name, figures in found.items():
        console.print(f"{name}: {figures}", highlight=False)
    return found


def _measured(tasks: int, console: Console, *, sends: bool, reads: bool) -> tuple[float, float]:
    """Return drain rate and CPU seconds per 1,000 tasks of one run on a server of its own."""
    with RedisServer() as server, _reader(server.url(0)) if reads else nullcontext():
        options = replace(_OPTIONS, tasks=tasks, task_events=sends, broker=server.url(0), backend=server.url(1))
        with ConsoleReporter(console) as reporter:
            outcome = run(options, reporter)
    if outcome.problems():
        raise SystemExit(f"wrong results: {outcome.problems()}")
    (figures,) = outcome.subjects["pyworker"]
    assert figures.drain_per_s is not None and figures.cpu_s_per_1000 is not None
    return figures.drain_per_s, figures.cpu_s_per_1000


@contextmanager
def _reader(url: str) -> Iterator[None]:
    """Read everything that goes through the event exchange, as fast as it comes."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname or "127.0.0.1", address.port or 6379))
    connection.sendall(b"PSUBSCRIBE /0.celeryev*\r\n")
    connection.recv(1 << 16)
    buffer = bytearray(1 << 20)

    def read() -> None:
        try:
            while connection.recv_into(buffer):
                pass
        except OSError:
            # The connection was closed: the run is over.
            return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        connection.close()

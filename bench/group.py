"""What sending a group costs: a real ``group(...).apply_async()`` of ours beside Celery's, rounds in turn.

``python -m bench.group [SIZE] [ROUNDS]`` prints the table alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Console

from pyworker.bench.errors import BenchError
from pyworker.bench.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIZE = 10_000
_ROUNDS = 5
_LIBRARIES = ("pyworker", "celery")
#: One library's program: for each line that it reads it builds and sends one group, and says what that took.
_PROGRAM = """
import gc, json, sys, time
from {library} import Celery, group

app = Celery("bench", broker=sys.argv[1], backend=sys.argv[1])

@app.task(name="bench.add")
def add(x, y):
    return x + y

def send(size):
    gc.collect()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    result = group(add.s(number, number) for number in range(size)).apply_async()
    found = {{"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s, "sent": len(result)}}
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for number in range(size // 10):
        add.delay(number, number)
    found.update(delay_cpu_s=time.process_time() - cpu_s, delay_wall_s=time.perf_counter() - wall_s)
    return found

send(10)
print(flush=True)
for line in sys.stdin:
    print(json.dumps(send(int(line))), flush=True)
"""


class Sender:
    """One library in a process of its own."""

    def __init__(self, library: str, server: RedisServer) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(library=library), server.url(0)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._read()

    def send(self, size: int) -> dict[str, float]:
        """Send one group, then a tenth of it by ``delay()``; return what both took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._read())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the sending program ended early")
        return line


def measure_group(console: Console, size: int = _SIZE, rounds: int = _ROUNDS) -> dict[str, dict[str, float]]:
    """Return for each library the medians of microseconds for each task, and how many times faster ours is.

    Raises:
        BenchError: a message is missing.
    """
    console.rule(f"a group of {size:,} tasks, {rounds} rounds in turn")
    found: dict[str, list[dict[str, float]]] = {library: [] for library in _LIBRARIES}
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        client = stack.enter_context(redis.Redis.from_url(server.url(0)))
        senders: dict[str, Sender] = {}
        for library in _LIBRARIES:
            senders[library] = sender = Sender(library, server)
            stack.callback(sender.close)
        for _ in range(rounds):
            for library, sender in senders.items():
                client.flushall()
                found[library].append(_per_task_us(sender.send(size), size))
                _check(client, size + size // 10)
    medians = {library: _medians(each) for library, each in found.items()}
    ours, theirs = medians["pyworker"], medians["celery"]
    medians["ratio"] = {figure: round(theirs[figure] / ours[figure], 1) for figure in ours}
    for name, figures in medians.items():
        console.print(f"{name}: {figures}", highlight=False)
    return medians


def _per_task_us(taken: Mapping[str, float], size: int) -> dict[str, float]:
    if taken["sent"] != size:
        raise BenchError(f"{taken['sent']} results of a group of {size}")
    return {
        "group_cpu_us": taken["cpu_s"] / size * 1e6,
        "group_wall_us": taken["wall_s"] / size * 1e6,
        "delay_cpu_us": taken["delay_cpu_s"] / (size // 10) * 1e6,
        "delay_wall_us": taken["delay_wall_s"] / (size // 10) * 1e6,
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {figure: round(statistics.median(each[figure] for each in rounds), 2) for figure in rounds[0]}


def _check(client: Any, expected: int) -> None:
    found = client.llen("celery")
    if found != expected:
        raise BenchError(f"{found} messages in the queue, {expected} were sent")


if __name__ == "__main__":
    measure_group(Console(), *(int(word) for word in sys.argv[1:]))

"""How long probes and metrics take to answer while the node is saturated, and while all its children are blocked."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from pyworker.bench.errors import BenchError
from pyworker.bench.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_PATHS = ("livez", "readyz", "metrics")
_CHILDREN = 2
_BACKLOG = 20_000
_DEADLINE_S = 60.0


def measure_probes(requests: int, console: Console) -> dict[str, dict[str, float]]:
    """Return milliseconds, median and 99th percentile by path, for a saturated and for a blocked node.

    Raises:
        BenchError: the node did not start, or was not as busy as it should have been.
    """
    console.rule(f"probes, {requests} requests each")
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        os.environ["PROBED_BROKER_URL"] = server.url(0)
        from bench.probed_app import app, block, nothing  # the application reads the environment at its import

        stack.callback(app.close)
        client: Any = redis.Redis.from_url(server.url(0))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-")))
        address = stack.enter_context(_node(directory / "worker.log"))
        bare = stack.enter_context(_bare_responder())
        nothing.apply_async(queue="sample")
        with _backlog(client, client.rpop("sample")):
            _wait(lambda: _figure(address, "tasks_started_total") > _BACKLOG / 2, "the node works")
            before = _figure(address, "tasks_started_total")
            began = time.monotonic()
            for path in _PATHS:
                found[f"saturated, /{path}"] = _times_ms(address, f"/{path}", requests)
            found["saturated, a bare responder instead"] = _times_ms(bare, "/", requests)
            rate = (_figure(address, "tasks_started_total") - before) / (time.monotonic() - began)
            console.print(f"{rate:,.0f} tasks/s meanwhile", highlight=False)
            if not client.llen("celery"):
                raise BenchError("the node had nothing to do while its probes were measured")
        client.delete("celery")
        for _ in range(_CHILDREN):
            block.delay()
        _wait(lambda: _figure(address, "pool_children_busy") == _CHILDREN, "all children are blocked")
        for path in _PATHS:
            found[f"all children blocked, /{path}"] = _times_ms(address, f"/{path}", requests)
    for name, figures in found.items():
        console.print(f"{name}: {figures}", highlight=False)
    return found


@contextmanager
def _node(log: Path) -> Iterator[str]:
    """A worker whose probes listen; gives their address."""
    options = ["-c", str(_CHILDREN), "--probes", "0", "-l", "INFO"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pyworker", "-A", "bench.probed_app", "worker", *options],
            stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"C_FORCE_ROOT": "1"},
        )  # fmt: skip
    try:
        found: list[str] = []

        def listens() -> bool:
            found[:] = re.findall(r"probes listen at (http://\S+)", log.read_text(errors="replace"))
            return bool(found)

        _wait(listens, "the node listens")
        yield found[0]
    finally:
        # Blocked tasks do not end by themselves.
        worker.kill()
        worker.wait()


@contextmanager
def _backlog(client: Any, message: bytes) -> Iterator[None]:
    """Keep copies of a message in the queue."""
    stopping = threading.Event()

    def fill() -> None:
        copies = [message] * 1_000
        while not stopping.is_set():
            for _ in range(0, _BACKLOG - client.llen("celery"), len(copies)):
                client.lpush("celery", *copies)
            stopping.wait(0.02)

    feeder = threading.Thread(target=fill)
    feeder.start()
    try:
        yield
    finally:
        stopping.set()
        feeder.join()


@contextmanager
def _bare_responder() -> Iterator[str]:
    """A process that does nothing but answer; gives its address."""
    with subprocess.Popen([sys.executable, "-m", "bench.prober", "answer"], stdout=subprocess.PIPE, text=True) as bare:
        try:
            assert bare.stdout is not None
            yield f"http://{bare.stdout.readline().strip()}"
        finally:
            bare.kill()


def _times_ms(url: str, path: str, requests: int) -> dict[str, float]:
    """Ask from another process: this one is busy with the backlog."""
    address = url.removeprefix("http://")
    asked = subprocess.run(
        [sys.executable, "-m", "bench.prober", address, path, str(requests)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    times = sorted(json.loads(asked.stdout))
    return {"median_ms": round(statistics.median(times), 3), "p99_ms": round(times[int(len(times) * 0.99)], 3)}


def _figure(address: str, name: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        found = re.search(rf"^pyworker_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def _wait(condition: Any, what: str) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"not in {_DEADLINE_S:g} s: {what}")
        time.sleep(0.05)

"""``make soak``: a bounded run that must not grow. SOAK_SECONDS says how long, 120 without it.

A worker gets 2,000 tasks a second, 1 % of which raise; its connections are cut every ten seconds, and its children are
replaced all the time. Memory of the main process, descriptors of the whole family and keys of the server are noted; the
last third must not lie above the middle one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from pyworker.bench.redis_server import free_port

RATE_PER_S = 2_000
CUT_EVERY_S = 10.0
SAMPLE_EVERY_S = 1.0
#: Growth of the last third over the middle one that is noise: of memory, descriptors and keys.
NOISE_KIB, NOISE_DESCRIPTORS, NOISE_KEYS = 2_048, 8, 20


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment."""

    memory_kib: int
    descriptors: int
    #: Names of the keys that are no results.
    names: frozenset[str]

    @property
    def keys(self) -> int:
        """How many there are."""
        return len(self.names)

    def __str__(self) -> str:
        return f"{self.memory_kib:,} KiB, {self.descriptors} descriptors, {self.keys} keys"


def main() -> int:
    """Run; returns the exit code."""
    seconds = float(os.environ.get("SOAK_SECONDS", "120"))
    with tempfile.TemporaryDirectory(prefix="pyworker-soak-") as directory:
        port = free_port()
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        try:
            return _soak(f"redis://127.0.0.1:{port}/0", Path(directory) / "worker.log", seconds)
        finally:
            server.terminate()
            server.wait()


def _soak(url: str, log: Path, seconds: float) -> int:
    os.environ["SOAK_BROKER_URL"] = url
    client: Any = redis.Redis.from_url(url)
    _await(client.ping)
    options = ["-c", "2", "--max-tasks-per-child", "5000", "-l", "CRITICAL"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pyworker", "-A", "bench.soak_app", "worker", *options],
            stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"C_FORCE_ROOT": "1"},
        )  # fmt: skip
    stopping = threading.Event()
    sent = [0]
    publisher = threading.Thread(target=_publish, args=(redis.Redis.from_url(url), stopping, sent))
    try:
        _await(lambda: client.exists("_kombu.binding.celery"))
        publisher.start()
        samples = _watch(worker, client, seconds)
        stopping.set()
        publisher.join()
        _await(lambda: not client.llen("celery") and not client.hlen("unacked"), seconds=60)
        worker.terminate()
        code = worker.wait(timeout=60)
    finally:
        stopping.set()
        worker.kill()
        worker.wait()
    problems = _judge(samples)
    if code:
        problems.append(f"the worker ended with {code}")
    kept = {name.decode() for name in client.scan_iter() if client.ttl(name) == -1 and not name.startswith(b"_kombu")}
    if kept:
        problems.append(f"keys without an expiry: {sorted(kept)[:5]}")
    print(f"{sent[0]:,} tasks in {seconds:.0f} s, {sent[0] / seconds:,.0f} of {RATE_PER_S:,} a second")
    print(f"first {samples[0]}, last {samples[-1]}")
    for problem in problems:
        print(f"PROBLEM {problem}")
    return int(bool(problems))


def _publish(client: Any, stopping: threading.Event, sent: list[int]) -> None:
    """Send what a stock client sends, copied with ids of their own: encoding each would take a core at this rate."""
    samples = _samples(client)
    began = time.monotonic()
    while not stopping.is_set():
        due = int((time.monotonic() - began) * RATE_PER_S) - sent[0]
        numbers = range(sent[0], sent[0] + min(due, RATE_PER_S))
        sent[0] = numbers.stop
        copies = [
            raw.replace(task_id, str(uuid.uuid4())) for task_id, raw in (samples[n % len(samples)] for n in numbers)
        ]
        try:
            if copies:
                client.lpush("celery", *copies)
        except redis.ConnectionError:
            continue  # the publisher's connection was cut as well; the next one is new
        stopping.wait(0.01)


def _samples(client: Any) -> list[tuple[str, str]]:
    """Ids and messages of a hundred tasks, the first of which raises."""
    from bench.soak_app import app, work

    with app.producer_pool.acquire(block=True) as producer:
        sent = [work.apply_async((number,), producer=producer, queue="samples").id for number in range(100)]
    found = [client.rpop("samples").decode() for _ in sent]
    routed = [raw.replace('"routing_key": "samples"', '"routing_key": "celery"') for raw in found]
    return list(zip(sent, routed, strict=True))


def _watch(worker: subprocess.Popen[bytes], client: Any, seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    end, next_cut = time.monotonic() + seconds, time.monotonic() + CUT_EVERY_S
    while time.monotonic() < end:
        time.sleep(SAMPLE_EVERY_S)
        if time.monotonic() >= next_cut:
            next_cut += CUT_EVERY_S
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        if worker.poll() is not None:
            raise SystemExit(f"the worker ended with {worker.returncode}")
        samples.append(Sample(_memory_kib(worker.pid), _descriptors(worker.pid), _lasting_keys(client)))
    return samples


def _judge(samples: list[Sample]) -> list[str]:
    third = len(samples) // 3
    if third < 3:
        return ["too short to tell"]
    problems = []
    for name, noise in (("memory_kib", NOISE_KIB), ("descriptors", NOISE_DESCRIPTORS), ("keys", NOISE_KEYS)):
        middle = statistics.median(getattr(sample, name) for sample in samples[third : 2 * third])
        last = statistics.median(getattr(sample, name) for sample in samples[2 * third :])
        print(f"{name}: median {middle:,.0f} in the middle third, {last:,.0f} in the last")
        if last > middle + noise:
            problems.append(f"{name} grew from {middle:,.0f} to {last:,.0f}")
            if name == "keys":
                problems.append(f"new keys: {sorted(samples[-1].names - samples[third].names)[:20]}")
    return problems


def _memory_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def _lasting_keys(client: Any) -> frozenset[str]:
    """Keys beside results, which come and go at the rate of the tasks and expire by themselves."""
    # A scan may name a key twice while the server's table changes its size, as it does here all the time.
    names = (name.decode(errors="replace") for name in client.scan_iter(count=10_000))
    return frozenset(name for name in names if not name.startswith("celery-task-meta-"))


def _descriptors(pid: int) -> int:
    """Open descriptors of a process and its children."""
    count = 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (str(pid), *children):
        try:
            count += len(os.listdir(f"/proc/{each}/fd"))
        except FileNotFoundError:
            continue  # a child that was just replaced
    return count


def _await(condition: Any, *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except redis.ConnectionError:
            pass
        if time.monotonic() > end:
            raise SystemExit("something did not come about in time")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

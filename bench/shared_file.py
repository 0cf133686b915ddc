"""Two workers and four producers on one SQLite file at the same time, every result checked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pyworker
import pyworker.signals
from bench.producer import task_id
from pyworker.bench import tally
from pyworker.bench.errors import BenchError
from pyworker.bench.measure_drain import measure_drain
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.peers.pyworker_peer import PyworkerPeer
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.settings import AppSettings
from pyworker.bench.worker_process import WorkerProcess
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from rich.console import Console

    from pyworker.bench.progress import Reporter

_WORKERS = 2
_PRODUCERS = 4
#: Name, tasks in one call, tasks in all.
_FORMS = (("one at a time", 1, 20_000), ("groups of 100", 100, 100_000))
_QUICK_SHARE = 10
_SYNCS = 300


def measure_shared_file(quick: bool, console: Console) -> dict[str, dict[str, float]]:
    """Return the figures of each form of sending.

    Raises:
        BenchError: something was lost, ran twice, has a wrong result, or the file is damaged.
    """
    console.rule(f"{_WORKERS} workers and {_PRODUCERS} producers on one file")
    found = {}
    with ConsoleReporter(console) as reporter:
        for name, batch, tasks in _FORMS:
            found[name] = _measure(batch, tasks // _QUICK_SHARE if quick else tasks, reporter)
            console.print(f"{name}: {found[name]}", highlight=False)
    return found


def _measure(batch: int, tasks: int, reporter: Reporter) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-"))
        syncs_per_s = _syncs_per_s(directory)
        url, path = f"sqlite:///{directory}/bench.db", os.path.join(directory, "tally")
        tally.create(path, tasks)
        settings = AppSettings(
            broker_url=url, backend_url=url, queue="bench-shared", tally_path=path, tally_capacity=tasks
        )
        record = stack.enter_context(contextlib.closing(tally.Tally(path, tasks)))
        app = make_app(pyworker.Celery, pyworker.signals, settings)
        client = stack.enter_context(contextlib.closing(CeleryClient(app, pyworker.group, settings, "")))
        client.expect({index: task_id(index) for index in range(tasks)})
        workers = [
            stack.enter_context(
                WorkerProcess(
                    PyworkerPeer(f"pyworker{number}", ""), settings, concurrency=1, pool="prefork",
                    loglevel="WARNING", log_path=f"{path}.{number}.log",
                )
            )
            for number in range(_WORKERS)
        ]  # fmt: skip
        producers = [stack.enter_context(_producer(settings, tasks, number, batch)) for number in range(_PRODUCERS)]
        for producer in producers:
            _line(producer)
        reporter.phase(f"sending {tasks} tasks, {batch} at a time, and running them", tasks)
        begun = time.monotonic()
        for producer in producers:
            assert producer.stdin is not None
            producer.stdin.write("go\n")
            producer.stdin.flush()
        drain = measure_drain(workers[0], client, record, tasks, reporter)
        took_s = [float(_line(producer)) for producer in producers]
        problems = _problems(client, record, tasks)
        problems += [f"worker {number} ended with {code}" for number, code in _stop(workers) if code]
        problems += open_file(parse_sqlite_url(url, setting="bench"), setting="bench").problems()
        if problems:
            raise BenchError("; ".join(problems))
        return {
            "tasks": float(tasks),
            "published_per_s": tasks / max(took_s),
            "finished_per_s": tasks / (drain.finished_at - begun),
            "fastest_producer_s": min(took_s),
            "slowest_producer_s": max(took_s),
            "bare_syncs_per_s": syncs_per_s,
        }


def _producer(settings: AppSettings, tasks: int, number: int, batch: int) -> subprocess.Popen[str]:
    share = tasks // _PRODUCERS
    first = number * share
    stop = tasks if number == _PRODUCERS - 1 else first + share
    return subprocess.Popen(
        [sys.executable, "-m", "bench.producer", str(first), str(stop), str(batch)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings.to_environment()},
    )  # fmt: skip


def _line(producer: subprocess.Popen[str]) -> str:
    assert producer.stdout is not None
    line = producer.stdout.readline()
    if not line:
        raise BenchError(f"a producer ended with {producer.wait()}")
    return line


def _problems(client: CeleryClient, record: tally.Tally, tasks: int) -> list[str]:
    found = client.check(0, tasks)
    if missing := record.missing(0, tasks):
        found.append(f"{len(missing)} tasks never ran")
    if repeated := record.repeated(0, tasks):
        found.append(f"{len(repeated)} tasks ran more than once")
    return found


def _stop(workers: list[WorkerProcess]) -> list[tuple[int, int]]:
    return [(number, worker.stop()[0]) for number, worker in enumerate(workers)]


def _syncs_per_s(directory: str) -> float:
    """How often this disk can be waited for in a second, by one process that appends 4 KiB each time."""
    with open(os.path.join(directory, "syncs"), "wb", buffering=0) as file:
        begun = time.monotonic()
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
        return _SYNCS / (time.monotonic() - begun)

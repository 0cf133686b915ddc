"""Runs the demo's steps against a worker in the background."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyworker.bench.options import PRIVATE_FILE, BenchOptions
from pyworker.bench.peers.registry import find_peer
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.session import measure
from pyworker.bench.worker_process import ChildProcess
from pyworker.demo.steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.bench.figures import Figures
    from pyworker.bench.progress import Reporter

BROKER_VARIABLE = "DEMO_BROKER_URL"
RESULT_VARIABLE = "DEMO_RESULT_URL"


@dataclass(frozen=True, kw_only=True)
class Happening:
    """What one step did."""

    title: str
    call: str
    outcome: str
    seconds: float
    is_right: bool


def run_steps(
    program: str, app: str, log_directory: str, on_step: Callable[[Happening], None], broker: str = PRIVATE_FILE
) -> tuple[int, float]:
    """Start a worker on a new SQLite file, or on a Redis server of its own, do every step, stop the worker.

    Args:
        program: the worker's module, ``pyworker`` or ``celery``.
        app: module of the application, which takes its URLs from the environment.
        log_directory: where the worker's log goes.
        on_step: called after each step.
        broker: ``sqlite``, ``redis``, or the URL of one that is there.

    Returns:
        The worker's exit code and how long its warm shutdown took.
    """
    with ExitStack() as stack:
        urls = _urls(broker, log_directory, stack)
        environment = {BROKER_VARIABLE: urls[0], RESULT_VARIABLE: urls[1]}
        os.environ.update(environment)
        module = importlib.import_module(app)
        command = [sys.executable, "-m", program, "-A", app, "worker", "-l", "INFO", "-c", "2", "-n", "demo@%h"]
        worker = stack.enter_context(ChildProcess(command, environment, os.path.join(log_directory, "worker.log")))
        for step in STEPS:
            begun = time.monotonic()
            try:
                outcome, is_right = step.run(module)
            except Exception as error:  # whatever a step raises is what happened
                worker.ensure_running()
                outcome, is_right = f"{type(error).__name__}: {error}", False
            on_step(
                Happening(
                    title=step.title, call=step.call, outcome=outcome, seconds=time.monotonic() - begun,
                    is_right=is_right,
                )
            )  # fmt: skip
        return worker.stop()


def _urls(broker: str, directory: str, stack: ExitStack) -> tuple[str, str]:
    """The broker's and the result store's URL."""
    if broker == PRIVATE_FILE:
        url = f"sqlite:///{directory}/demo.db"
        return url, url
    if broker == "redis":
        server = stack.enter_context(RedisServer())
        return server.url(0), server.url(1)
    return broker, broker


def measure_rate(program: str, tasks: int, reporter: Reporter, broker: str = PRIVATE_FILE) -> Figures:
    """Drain a queue of tasks and check every result."""
    options = BenchOptions(
        worker=program, tasks=tasks, idle_round_trips=0, idle_cpu_s=0, load_s=0,
        broker=None if broker == "redis" else broker,
    )  # fmt: skip
    return measure(find_peer(program, app_kind="celery", payload=""), options, reporter)


def make_log_directory() -> str:
    """Return a new folder for the worker's log; it stays, so that it can be read afterwards."""
    return tempfile.mkdtemp(prefix="pyworker-demo-")

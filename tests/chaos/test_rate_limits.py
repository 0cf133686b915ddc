"""Rate limits from end to end: what a node starts in a minute while more waits than it may start."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from support.redis_server import RedisServer
from support.stage import load_app
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]

#: Starts per second by task.
LIMITS = {"slow": 5.0, "slower": 100 / 60, "fast": 10_000.0}
#: The backlog that is kept up, above what a limit starts between two looks at it.
_BACKLOG = 10_000
#: On a busy machine a child may start late what its node released in time; a limit that is not felt is far above this.
_LATENESS_S = 1.0


@pytest.fixture
def worker(kind: Kind, library: str, task: str) -> Iterator[WorkerProcess]:
    """A node that finds more than enough to do all the time."""
    with RedisServer() as server:
        module = load_app("paced", broker=server.url)
        getattr(module, task).apply_async(queue="sample")
        raw = server.client.rpop("sample")
        stopping = threading.Event()
        feeder = threading.Thread(target=keep_up, args=(server, raw, stopping))
        options = ("-c", "1", "--probes", "0", "--prefetch-multiplier", "4")
        running = WorkerProcess(
            kind, "paced", broker=server.url, options=options, environment={"TEST_LIBRARY": library}
        )
        feeder.start()
        try:
            yield running.start(is_ready=False)
        finally:
            stopping.set()
            feeder.join()
            running.close()
            module.app.close()


def keep_up(server: RedisServer, raw: str, stopping: threading.Event) -> None:
    """Keep a backlog of copies of one message."""
    copies = [raw] * 1_000
    while not stopping.is_set():
        missing = _BACKLOG - int(server.client.llen("celery"))
        for _ in range(0, missing, len(copies)):
            server.client.lpush("celery", *copies)
        stopping.wait(0.05)


def started(url: str, task: str) -> Callable[[], int]:
    """A function that says how many tasks have started, as the node's own figures have it."""
    pattern = re.compile(rf'^pyworker_task_wait_seconds_count{{task="paced\.{task}"}} (\d+)$', re.MULTILINE)

    def count() -> int:
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = pattern.search(answer.read().decode())
        return int(found.group(1)) if found else 0

    return count


@pytest.mark.parametrize("library", ["celery", "pyworker"])
@pytest.mark.parametrize("task", LIMITS)
def test_limit_holds(worker: WorkerProcess, task: str, request: pytest.FixtureRequest) -> None:
    """Never above it; in the long form, with the machine for itself, within 1 % or one task of it over a minute."""
    is_long = request.config.getoption("--chaos-long")
    url = worker.wait_for_line(r"probes listen at (http://\S+)", deadline_s=60).group(1) + "/metrics"
    count = started(url, task)
    first = eventually(count, deadline_s=60, what="a first start")
    began = time.monotonic()
    end = began + (60.0 if is_long else 1.0)
    eventually(lambda: time.monotonic() >= end, deadline_s=120)
    last = count()
    seconds = time.monotonic() - began
    allowed = LIMITS[task] * seconds
    print(f"{task}: {last - first} started in {seconds:.2f} s, {allowed:.1f} allowed")
    if not is_long:
        assert last - first <= LIMITS[task] * (seconds + _LATENESS_S) + 1
    else:
        assert abs(last - first - allowed) <= max(1.0, allowed * 0.01)

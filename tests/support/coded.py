"""Workers of the application ``coded``, each on its own queue: our engine with both libraries, and the stock one."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from support.kinds import Kind
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OURS = (sys.executable, "-m", "pyworker")
#: Queue and name by kind: the command, the library of the application.
KINDS = {
    "own": (Kind("pyworker-own", _OURS, "fast"), "pyworker"),
    "adapted": (Kind("pyworker-fast", _OURS, "fast"), "celery"),
    "stock": (Kind("stock", (sys.executable, "-m", "celery"), "fast"), "celery"),
}


@contextmanager
def coded_workers(
    broker: str, backend: str, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, WorkerProcess]]:
    """Start one worker of each kind; its queue has its name."""
    workers = {
        name: WorkerProcess(
            kind, "coded", broker=broker, backend=backend, options=("-c", "1", "-n", f"{name}@%h", "-Q", name),
            environment={"TEST_LIBRARY": library, **(environment or {})},
        )
        for name, (kind, library) in KINDS.items()
    }  # fmt: skip
    with ExitStack() as stack:
        for worker in workers.values():
            stack.callback(worker.close)
            worker.start(is_ready=False)
        for worker in workers.values():
            assert worker.node_name
        yield workers

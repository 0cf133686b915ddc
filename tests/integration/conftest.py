"""One stage (server, worker, producer) per kind of worker and module; a worker that a test broke is replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kinds import Kind


@pytest.fixture(scope="module")
def shared_stage(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The module's shared stage; a module says its app in ``APP`` and its options in ``WORKER_OPTIONS``."""
    app = getattr(request.module, "APP", "tasks")
    options = getattr(request.module, "WORKER_OPTIONS", ("-c", "2"))
    with Stage(kind, app, options=options) as opened:
        yield opened


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The shared stage with a running worker and empty queues, so that one failure stays one failure."""
    if not shared_stage.worker.is_running:
        shared_stage.redis.flushall()
        shared_stage.new_worker().start()
    return shared_stage

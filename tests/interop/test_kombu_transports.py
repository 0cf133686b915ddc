"""Redis and RabbitMQ through kombu, as the control: connections that break come back, and nothing is run twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.conformance_stage import ConformanceStage
from support.transports import TRANSPORTS
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("Redis through kombu", "RabbitMQ through kombu, classic queues")


@pytest.fixture(params=NAMES)
def stage(request: pytest.FixtureRequest) -> Iterator[ConformanceStage]:
    """A worker on a broker whose connections can be cut."""
    transport = next(transport for transport in TRANSPORTS if transport.name == request.param)
    opened = ConformanceStage(transport).open()
    try:
        opened.worker = opened.start_worker()
        yield opened
        opened.describe()
    finally:
        opened.close()


def cut(stage: ConformanceStage) -> None:
    """Break every connection that the server lists, the consuming one among them, from the server's side."""
    server: Any = stage.place.server
    if stage.transport.name.startswith("Redis"):
        server.client.client_kill_filter(_type="normal", skipme=True)
    else:

        def is_listed() -> bool:
            consuming = server.consuming()
            return bool(consuming) and consuming <= set(server.connections())

        # The list lags seconds behind: it may hold the worker's first connections and not yet the one that consumes.
        eventually(is_listed, deadline_s=60.0, what="the server lists the consuming connection")
        assert server.cut() > 0


def test_work_goes_on_after_a_drop(stage: ConformanceStage) -> None:
    assert stage.get(stage.call("add", 1, 1)) == 2
    stage.call("gated_late", "long", "gate")
    stage.wait_for_notes("long", 1)
    cut(stage)
    stage.worker.wait_for_line("Connection to broker lost. Trying to re-establish the connection", deadline_s=60.0)
    results = []

    def is_sent() -> bool:
        # The client's own connection is gone as well.
        try:
            results.append(stage.call("add", 2, 2))
        except Exception:
            return False
        return True

    eventually(is_sent, deadline_s=60.0, what="a task is sent again")
    assert stage.get(results[-1]) == 4
    stage.notebook.open_gate("gate")
    # Handed out again by the server or not: it runs here already and is not run twice.
    assert stage.get(stage.call("add", 3, 3)) == 6
    assert stage.worker.stop() == 0
    assert len(stage.notebook.notes("long")) == 1

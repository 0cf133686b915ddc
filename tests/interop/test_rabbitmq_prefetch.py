"""Retries, times and a growing pool on classic and quorum queues, without the prefetch that quorum queues lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.conformance_stage import ConformanceStage
from support.transports import TRANSPORTS
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]


@pytest.fixture(params=["RabbitMQ, classic queues", "RabbitMQ, quorum queues"])
def stage(request: pytest.FixtureRequest) -> Iterator[ConformanceStage]:
    """A worker whose pool grows from one child to three."""
    transport = next(transport for transport in TRANSPORTS if transport.name == request.param)
    opened = ConformanceStage(transport, options=("--autoscale", "3,1")).open()
    try:
        opened.worker = opened.start_worker()
        yield opened
        opened.describe()
    finally:
        opened.close()


#: Tasks that are retried, and how often.
RETRIED, RETRIES = 40, 6


def test_retries_and_times_while_the_pool_grows(stage: ConformanceStage) -> None:
    held = [stage.call("gated_late", "grown", "gate") for _ in range(3)]
    # One child would never run three at once.
    assert len({entry["pid"] for entry in stage.wait_for_notes("grown", 3)}) == 3
    for number in range(RETRIED):
        # Its states are written by several processes at a time, which the file store of this suite does not order.
        stage.call("retried", f"retried-{number}", RETRIES, ignore_result=True)
    delayed = [stage.call("noted", "delayed", number, countdown=1.5) for number in range(5)]
    host = stage.place.server
    eventually(lambda: len(host.consuming()) == 1, deadline_s=60, what="the server lists the consumer")
    channels = [one for one in host.node.manage("GET", "channels") if one.get("vhost") == host.name]
    assert channels
    # Newer servers know no such thing.
    assert {one.get("global_prefetch_count", 0) for one in channels} == {0}
    assert max(one["consumer_count"] for one in channels) >= 1
    stage.notebook.open_gate("gate")
    assert [stage.get(result) for result in [*held, *delayed]] == [None] * 3 + list(range(5))
    for number in range(RETRIED):
        stage.wait_for_notes(f"retried-{number}", RETRIES + 1)
    eventually(host.is_drained, deadline_s=60, what="nothing is left to run")
    assert stage.worker.stop() == 0
    # A time as short as theirs is over before the worker has put the message aside: each runs once all the same.
    for number in range(RETRIED):
        entries = stage.notebook.notes(f"retried-{number}")
        assert [entry["retries"] for entry in entries] == list(range(RETRIES + 1)), entries

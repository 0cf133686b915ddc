"""Rolling restarts under load: a warm stop and a fresh start, again and again; every task runs once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.havoc import Publisher
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    import random

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]


def test_nothing_is_lost_or_repeated(kind: Kind, randomness: random.Random, request: pytest.FixtureRequest) -> None:
    config = request.config
    is_long = config.getoption("--chaos-long")
    restarts = int(1_000 * config.getoption("--chaos-share")) if is_long else 20
    total = restarts * (300 if is_long else 150)
    with Stage(kind, "impatient", options=("-c", "2")) as stage:
        publisher = Publisher(stage, stage.tasks.count_early_busy, "rolling", total, 0.015, most_waiting=1_000)
        publisher.start()
        for restart in range(restarts):
            old = stage.worker
            before = int(stage.redis.hlen("executions:rolling"))
            step = randomness.randrange(1, 60)
            eventually(lambda: int(stage.redis.hlen("executions:rolling")) >= min(before + step, total), deadline_s=60)  # noqa: B023
            # The new node is there before the old one goes, as in a rolling deployment.
            stage.new_worker(options=("-c", "2", "-n", f"w{randomness.getrandbits(32)}@%h")).start(deadline_s=120)
            old.send(signal.SIGTERM)
            assert old.wait(deadline_s=120) == 0, old.log
            if restart % 50 == 49:
                print(f"{restart + 1} restarts, {before} tasks", flush=True)
        publisher.stop()
        publisher.join(deadline_s=120)
        assert not publisher.uncertain
        stage.wait_until_drained(deadline_s=120)
        assert stage.worker.stop(deadline_s=120) == 0
        begun = {member: int(count) for member, count in stage.redis.hgetall("executions:rolling:begun").items()}
        finished = {member: int(count) for member, count in stage.redis.hgetall("executions:rolling").items()}
        print(f"{restarts} restarts, {len(publisher.acknowledged)} tasks")
        assert set(finished) == publisher.acknowledged
        assert {member: count for member, count in {**begun, **finished}.items() if count != 1} == {}
        assert not stage.redis.exists("unacked", "unacked_index")

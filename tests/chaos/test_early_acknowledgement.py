"""Early acks and SIGKILL of whole nodes: what is lost is bounded by what ran, what repeats by what the node held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.havoc import Publisher
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]

CONCURRENCY = 2
#: Messages that a node holds at most: Celery's count, since 20 ms of work are fewer of these tasks.
PREFETCHED = CONCURRENCY * 4


@pytest.fixture
def stage(kind: Kind) -> Iterator[Stage]:
    """A server and the app; the test starts the workers."""
    stage = Stage(kind, "impatient", options=("-c", str(CONCURRENCY))).open(has_worker=False)
    yield stage
    stage.close()


def executions(stage: Stage, name: str) -> dict[str, int]:
    return {member: int(count) for member, count in stage.redis.hgetall(f"executions:{name}").items()}


def executed(stage: Stage) -> int:
    return int(stage.redis.hlen("executions:early"))


def kill_at_work(stage: Stage, total: int, kills: int, randomness: random.Random) -> int:
    """SIGKILL node after node while it works off the queue; tells how many of them still had work to do."""
    at_work = 0
    for _ in range(kills):
        stage.new_worker().start()
        enough = min(executed(stage) + randomness.randrange(20, 80), total)
        eventually(
            lambda enough=enough: executed(stage) >= enough,  # type: ignore[misc]
            deadline_s=120,
            what=f"{enough} tasks executed",
        )
        stage.worker.kill_all()
        at_work += executed(stage) < total or stage.unacked() > 0
    return at_work


def test_killed_node_loses_at_most_what_ran(
    stage: Stage, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("--chaos-long")
    share = request.config.getoption("--chaos-share")
    kills = int(40 * share) if is_long else 4
    total = int(8_000 * share) if is_long else 800
    publisher = Publisher(stage, stage.tasks.count_early_busy, "early", total, 0.005)
    publisher.start()
    publisher.join(deadline_s=120 + total / 10)
    assert not publisher.uncertain
    at_work = kill_at_work(stage, total, kills, randomness)
    stage.new_worker().start()
    stage.wait_until_drained(deadline_s=120 + total / 10)
    # What runs is acknowledged already: only a warm stop says that it has ended.
    assert stage.worker.stop(deadline_s=60) == 0
    begun, finished = executions(stage, "early:begun"), executions(stage, "early")
    lost = publisher.acknowledged - set(finished)
    # A task starts when its child claims it, which is before its own first line.
    claimed_only = lost - set(begun)
    repeats = sum(count - 1 for count in begun.values())
    print(
        f"{total} tasks, {at_work} kills of a working node with {CONCURRENCY} children: {len(lost)} lost, "
        f"{len(claimed_only)} of them before their first line, {repeats} begun more than once"
    )
    assert at_work, "every node was killed idle"
    assert len(lost) <= CONCURRENCY * at_work
    assert repeats <= PREFETCHED * at_work

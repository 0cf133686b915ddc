"""Terminates that come when their short task is ending: they end that task or nothing, never the one after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    import random

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]

_BATCH = 100
_TOLD_EVERY = 1_000
#: Some terminates come in time and most come late: each that ends a child costs a new one.
_LONGEST_S = 0.0015


def test_no_other_task_dies(kind: Kind, randomness: random.Random, request: pytest.FixtureRequest) -> None:
    """Every other task is a victim that asks for its own end; those between them share its child."""
    config = request.config
    victims = int(100_000 * config.getoption("--chaos-share")) if config.getoption("--chaos-long") else 2_000
    with Stage(kind, "impatient", options=("-c", "2", "--without-mingle", "--without-gossip")) as stage:
        hits = 0
        for first in range(0, victims, _BATCH):
            hits += run_batch(stage, range(first, min(first + _BATCH, victims)), randomness)
            if first and first % _TOLD_EVERY == 0:
                print(f"{first} terminates, {hits} ended their task", flush=True)
        assert stage.worker.stop() == 0
        print(f"{victims} terminates, {hits} ended their task, {victims} other tasks: all whole")
        assert hits, "no terminate came in time"


def run_batch(stage: Stage, numbers: range, randomness: random.Random) -> int:
    """Run one victim and one bystander for each number; returns how many victims were ended."""
    name, ids = f"terminated-{numbers.start}", []
    with stage.app.producer_pool.acquire(block=True) as producer:
        for number in numbers:
            seconds = randomness.uniform(0, _LONGEST_S)
            arguments = (name, f"victim-{number}", seconds)
            ids.append(stage.tasks.terminates_itself.apply_async(arguments, producer=producer).id)
            bystander = (name, f"other-{number}")
            stage.tasks.count_early_busy.apply_async((*bystander, 0.0), producer=producer, ignore_result=True)
    ended = eventually(lambda: ends(stage, ids), deadline_s=120, what="an end of every victim")
    assert [end for end in ended if end["status"] not in ("SUCCESS", "REVOKED")] == []
    states = [end["status"] for end in ended]
    stage.wait_until_drained(deadline_s=60)
    others = {f"other-{number}" for number in numbers}
    eventually(lambda: others <= set(counts(stage, name)), deadline_s=60, what="the other tasks' ends")
    begun, finished = (counts(stage, f"{name}{suffix}") for suffix in (":begun", ""))
    assert {member: count for member, count in begun.items() if count != 1} == {}
    assert {member for member in begun if member.startswith("other")} == others
    assert {member for member in finished if member.startswith("other")} == others
    victims = [f"victim-{number}" for number in numbers]
    unfinished = [position for position, member in enumerate(victims) if member not in finished]
    assert {states[position] for position in unfinished} <= {"REVOKED"}
    stage.redis.delete(f"executions:{name}", f"executions:{name}:begun", f"shares:{name}")
    return states.count("REVOKED")


def ends(stage: Stage, ids: list[str]) -> list[dict[str, Any]]:
    """Return the victims' results once all have one."""
    found: list[Any] = stage.redis.mget([f"celery-task-meta-{each}" for each in ids])
    return [json.loads(each) for each in found] if all(found) else []


def counts(stage: Stage, name: str) -> dict[str, int]:
    return {member: int(count) for member, count in stage.notes.hgetall(f"executions:{name}").items()}

"""Time limits of the task, the request and the worker; limits of tasks and memory per child."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from support.stage import Stage

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.control


def test_soft_limit_can_be_caught(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.softly_limited.delay("soft")
    assert result.get(timeout=15) == "cleaned up"
    assert [entry["exc"] for entry in stage.journal("soft")] == ["SoftTimeLimitExceeded()"]
    stage.worker.wait_for_line(
        rf"WARNING/MainProcess\] Soft time limit \(1s\) exceeded for tasks\.softly_limited\[{result.id}\]",
        after=position,
    )


def test_uncaught_soft_limit_fails_the_task(stage: Stage) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        stage.tasks.softly_limited_uncaught.delay().get(timeout=15)


def test_hard_limit_ends_the_process_and_fails_the_task(stage: Stage) -> None:
    position = stage.worker.mark()
    neighbour = stage.tasks.gated.delay("beside the limit", "unharmed")
    stage.wait_for_journal("beside the limit", 1)
    result = stage.tasks.hard_limited.delay("hard")
    with pytest.raises(TimeLimitExceeded) as caught:
        result.get(timeout=20)
    assert "1" in str(caught.value)
    pid = stage.journal("hard")[0]["pid"]
    stage.worker.wait_until_gone([pid])
    stage.worker.wait_for_line(
        rf"ERROR/MainProcess\] Hard time limit \(1s\) exceeded for tasks\.hard_limited\[{result.id}\]", after=position
    )
    stage.open_gate("beside the limit")
    assert neighbour.get(timeout=20) == "unharmed"
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2
    assert len(stage.journal("hard")) == 1


def test_limits_of_the_call_apply(stage: Stage) -> None:
    hard = stage.tasks.wait_long.apply_async(("call hard",), time_limit=1)
    soft = stage.tasks.wait_long.apply_async(("call soft",), soft_time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=20)
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=20)


@pytest.mark.lanes("fast", "library")
def test_limits_of_the_worker_apply(kind: Kind) -> None:
    with Stage(kind, options=("-c", "2", "--soft-time-limit", "1", "--time-limit", "30")) as stage:
        with pytest.raises(SoftTimeLimitExceeded):
            stage.tasks.wait_long.delay("worker soft").get(timeout=20)
        assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2


@pytest.mark.lanes("fast", "library")
def test_child_is_replaced_after_its_number_of_tasks(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1", "--max-tasks-per-child", "3")) as stage:
        results = [stage.tasks.process_id.delay() for _ in range(9)]
        pids = [result.get(timeout=30) for result in results]
        assert [len(set(pids[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1], pids
        assert len(set(pids)) == 3


@pytest.mark.lanes("fast", "library")
def test_child_is_replaced_when_it_is_too_big(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1", "--max-memory-per-child", "1000")) as stage:
        pids = [stage.tasks.process_id.delay().get(timeout=30) for _ in range(3)]
        assert len(set(pids)) == 3

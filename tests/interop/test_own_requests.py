"""Request classes of the application are told of receipt, start and end as Celery's worker tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import eventually

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = [pytest.mark.control, pytest.mark.lanes("fast")]

APP = "own_requests"
WORKER_OPTIONS = ("-c", "1")

_ACCEPTED = ["on_accepted", [True, True]]
_ACKNOWLEDGED = ["acknowledge", []]


def calls(stage: Stage, task: str, count: int) -> list[Any]:
    """Run a task and return what its request was told, once it is that much."""
    stage.redis.delete("journal:requests")
    getattr(stage.tasks, task).apply_async(args=(1,) if task.startswith("succeed") else ())
    entries = stage.wait_for_journal("requests", count)
    assert len(entries) == count, entries
    return [[entry["call"], entry["details"]] for entry in entries]


@pytest.mark.parametrize("task", ["succeed", "succeed_late"])
def test_start_and_success_are_told(stage: Stage, task: str) -> None:
    assert calls(stage, task, 2) == [_ACCEPTED, _ACKNOWLEDGED]
    # One object from receipt to end.
    assert stage.journal("requests")[-1]["calls"] == ["on_accepted", "acknowledge"]
    stage.wait_until_drained()


def test_failure_is_told_with_its_traceback(stage: Stage) -> None:
    assert calls(stage, "fail", 3) == [_ACCEPTED, _ACKNOWLEDGED, ["on_failure", ["ValueError", True, ["return_ok"]]]]


def test_retry_is_told(stage: Stage) -> None:
    told = calls(stage, "retry_once", 6)
    assert ["on_failure", ["KeyError", True, ["return_ok"]]] in told
    assert ["on_retry", ["Retry"]] in told
    # The second run may begin before the parent has heard the end of the first, each on an object of its own.
    lives = [entry["calls"] for entry in stage.journal("requests")]
    first = ["on_accepted", "acknowledge", "on_failure", "on_retry"]
    assert sorted(lives) == sorted([first[:1], first[:2], first[:3], first, first[:1], first[:2]])


@pytest.mark.parametrize(
    ("task", "error", "settled"), [("ignore", "Ignore", ["acknowledge"] * 2), ("reject", "Reject", [])]
)
def test_ignored_and_rejected_are_told(stage: Stage, task: str, error: str, settled: list[str]) -> None:
    told = calls(stage, task, 2 + len(settled))
    assert ["on_failure", [error, True, ["return_ok"]]] in told
    assert sorted(call for call, _ in told) == sorted(["on_accepted", "on_failure", *settled])
    stage.wait_until_drained()


def test_hard_limit_is_told(stage: Stage) -> None:
    stage.redis.delete("journal:requests")
    stage.tasks.too_long.delay()

    def told() -> list[str]:
        return [entry["call"] for entry in stage.journal("requests")]

    eventually(lambda: {"on_failure", "on_timeout"} <= set(told()))
    entries = stage.journal("requests")
    assert told()[:2] == ["on_accepted", "acknowledge"]
    assert next(entry for entry in entries if entry["call"] == "on_timeout")["details"] == [False, 1]


def test_lost_child_is_told(stage: Stage) -> None:
    stage.redis.delete("journal:requests")
    stage.tasks.die.delay()
    entries = stage.wait_for_journal("requests", 3)
    assert [entry["call"] for entry in entries[:2]] == ["on_accepted", "acknowledge"]
    failure = next(entry for entry in entries if entry["call"] == "on_failure")
    assert failure["details"][0] == "WorkerLostError"


def test_scheduled_task_is_received_at_once_and_only_once(stage: Stage) -> None:
    stage.redis.delete("journal:received", "journal:requests")
    result = stage.tasks.succeed.apply_async(args=(1,), countdown=2)
    received = stage.wait_for_journal("received", 1)
    assert received[0]["id"] == result.id
    assert not stage.journal("requests")
    assert result.get(timeout=30) == 2
    entries = stage.wait_for_journal("received", 2)
    assert [entry["what"] for entry in entries] == ["received", "ran"]
    assert entries[1]["at"] - entries[0]["at"] > 1
    eventually(lambda: stage.journal("requests")[-1]["calls"] == ["on_accepted", "acknowledge"])

"""Celery's documented examples of calling tasks and reading results (examples 1-2, 15-38)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TaskRevokedError, TimeoutError
from celery.result import AsyncResult

from support.waiting import eventually

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = pytest.mark.control


def test_delay_returns_the_sum(stage: Stage) -> None:
    assert stage.tasks.add.delay(4, 4).get(timeout=30) == 8
    assert stage.tasks.add.delay(2, 2).get(timeout=30) == 4


def test_apply_async_takes_args_and_kwargs(stage: Stage) -> None:
    assert stage.tasks.add.apply_async((1,), {"y": 5}).get(timeout=30) == 6
    assert stage.tasks.echo.apply_async(args=[1, "two"], kwargs={"three": 3.5}).get(timeout=30) == {
        "args": [1, "two"],
        "kwargs": {"three": 3.5},
    }


def test_send_task_runs_a_task_by_name_alone(stage: Stage) -> None:
    assert stage.app.send_task("tasks.add", (3, 4)).get(timeout=30) == 7


def test_task_with_a_name_of_its_own_runs(stage: Stage) -> None:
    assert stage.tasks.named.name == "sum-of-two-numbers"
    assert stage.tasks.named.delay(1, 2).get(timeout=30) == 3


def test_new_arguments_are_prepended_and_options_merged(stage: Stage) -> None:
    tasks = stage.tasks
    assert tasks.add.s(2).delay(8).get(timeout=30) == 10
    assert tasks.show.s(1, debug=True).delay(debug=False).get(timeout=30) == {"value": 1, "debug": False}
    cloned = tasks.echo.s(2).clone(args=(4,), kwargs={"debug": True})
    assert cloned.delay().get(timeout=30) == {"args": [4, 2], "kwargs": {"debug": True}}


def test_later_option_wins_over_the_signatures(stage: Stage) -> None:
    begun = time.monotonic()
    signature = stage.tasks.add.signature((2, 2), countdown=600)
    assert signature.apply_async(countdown=0.01).get(timeout=30) == 4
    assert time.monotonic() - begun < 10


def test_unknown_id_is_pending(stage: Stage) -> None:
    assert AsyncResult("this-id-does-not-exist", app=stage.app).state == "PENDING"


def test_failure_keeps_type_text_and_state(stage: Stage) -> None:
    result = stage.tasks.add.delay(2, "2")
    error = result.get(timeout=30, propagate=False)
    assert type(error) is TypeError
    assert str(error) == "unsupported operand type(s) for +: 'int' and 'str'"
    assert (result.failed(), result.successful(), result.state) == (True, False, "FAILURE")
    with pytest.raises(TypeError, match="unsupported operand"):
        result.get(timeout=30)


def test_traceback_ends_at_the_line_that_raised(stage: Stage) -> None:
    result = stage.tasks.raising.delay("look at my traceback")
    result.get(timeout=30, propagate=False)
    lines = result.traceback.strip().splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: look at my traceback"
    assert any('tasks.py", line' in line and line.endswith("in raising") for line in lines)
    assert "raise ValueError(text)" in result.traceback


def test_arguments_are_checked_at_the_call(stage: Stage) -> None:
    with pytest.raises(TypeError, match="add"):
        stage.tasks.add.delay(8)


def test_unchecked_call_fails_in_the_worker(stage: Stage) -> None:
    result = stage.tasks.add_unchecked.delay(8)
    error = result.get(timeout=30, propagate=False)
    assert type(error) is TypeError
    assert "add_unchecked() missing 1 required positional argument: 'y'" in str(error)


@pytest.mark.parametrize(("ignore", "expected"), [(True, None), (False, 3)])
def test_ignore_result_of_the_call_decides(stage: Stage, ignore: bool, expected: int | None) -> None:
    result = stage.tasks.add.apply_async((1, 2), ignore_result=ignore)
    assert result.get(timeout=30) == expected
    if ignore:
        # A later task of the same queue is done, and still nothing was stored.
        stage.tasks.add.delay(0, 0).get(timeout=30)
        assert not stage.redis.exists(f"celery-task-meta-{result.id}")


def test_on_message_sees_every_state(stage: Stage) -> None:
    def run() -> list[tuple[str, Any]]:
        seen: list[dict[str, Any]] = []
        result = stage.tasks.hello.apply_async(args=(1, 1))
        assert result.get(timeout=30, on_message=seen.append, propagate=False) == "hello world: 2"
        # The client may still hear of an earlier test's result.
        return [(body["status"], body["result"]) for body in seen if body["task_id"] == result.id]

    # A client that begins to listen when all is over is told nothing: then once more.
    shown = eventually(run, what="states seen by the client")
    whole = [
        ("PROGRESS", {"progress": 50}),
        ("PROGRESS", {"progress": 90}),
        ("SUCCESS", "hello world: 2"),
    ]
    # The client may subscribe after the first states were published; what it sees is in order and complete at the end.
    assert shown == whole[len(whole) - len(shown) :]


def test_countdown_is_waited_for(stage: Stage) -> None:
    begun = time.time()
    ran_at = stage.tasks.stamped.apply_async(("countdown",), countdown=1.5).get(timeout=15)
    assert 1.5 <= ran_at - begun < 6


def test_eta_is_waited_for(stage: Stage) -> None:
    eta = datetime.now(timezone.utc) + timedelta(seconds=1.2)
    assert stage.tasks.stamped.apply_async(("eta",), eta=eta).get(timeout=15) >= eta.timestamp()


def test_eta_in_the_past_runs_at_once(stage: Stage) -> None:
    eta = datetime.now(timezone.utc) - timedelta(hours=1)
    assert stage.tasks.add.apply_async((2, 2), eta=eta).get(timeout=30) == 4


def test_eta_in_another_time_zone_is_the_same_instant(stage: Stage) -> None:
    eta = datetime.now(timezone(timedelta(hours=-7))) + timedelta(seconds=1)
    assert stage.tasks.stamped.apply_async(("zone",), eta=eta).get(timeout=15) >= eta.timestamp()


def test_etas_run_in_order_of_time_not_of_sending(stage: Stage) -> None:
    base = datetime.now(timezone.utc) + timedelta(seconds=1.0)
    results = [
        stage.tasks.stamped.apply_async(("eta-order", label), eta=base + timedelta(seconds=0.4 * label))
        for label in (2, 0, 1)
    ]
    for result in results:
        result.get(timeout=15)
    assert [entry["label"] for entry in stage.journal("eta-order")] == [0, 1, 2]


def test_expired_task_is_revoked(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.add.apply_async((2, 2), expires=datetime.now(timezone.utc) - timedelta(seconds=30))
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert result.state == "REVOKED"
    stage.worker.wait_for_line(rf"Discarding revoked task: tasks\.add\[{result.id}\]", after=position)


def test_task_that_expires_while_it_waits_is_revoked(stage: Stage) -> None:
    result = stage.tasks.add.apply_async((2, 2), countdown=1.5, expires=0.5)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)


def test_expiry_in_the_future_does_not_hinder(stage: Stage) -> None:
    assert stage.tasks.add.apply_async((2, 2), expires=60).get(timeout=30) == 4


def test_rate_limit_spaces_the_starts(stage: Stage) -> None:
    # A task writes down its start late on a busy machine, so the first one's says nothing.
    begun = time.monotonic()
    for _ in range(6):
        stage.tasks.rate_limited.delay("rate")
    entries = stage.wait_for_journal("rate", 6, deadline_s=60)
    # 600 a minute is one every 100 ms; the token bucket allows a burst of one.
    assert max(entry["at"] for entry in entries) - begun >= 0.4


def test_get_gives_up_after_its_timeout(stage: Stage) -> None:
    result = stage.tasks.gated.delay("give-up")
    with pytest.raises(TimeoutError):
        result.get(timeout=0.2)
    stage.open_gate("give-up")
    assert result.get(timeout=30) is None


def test_forget_removes_the_result(stage: Stage) -> None:
    result = stage.tasks.add.delay(1, 1)
    result.get(timeout=30)
    result.forget()
    assert not stage.redis.exists(f"celery-task-meta-{result.id}")


def test_result_key_expires(stage: Stage) -> None:
    result = stage.tasks.add.delay(1, 1)
    result.get(timeout=30)
    assert 86000 < stage.redis.ttl(f"celery-task-meta-{result.id}") <= 86400


def test_custom_task_id_is_used(stage: Stage) -> None:
    assert stage.tasks.describe_request.apply_async(task_id="my-own-id").get(timeout=30)["id"] == "my-own-id"


def test_many_results_are_all_right(stage: Stage) -> None:
    results = [stage.tasks.add.delay(number, number) for number in range(300)]
    assert [result.get(timeout=30) for result in results] == [2 * number for number in range(300)]

"""Retry, autoretry with back-off and what a task may raise to end otherwise than by success or failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.exceptions import MaxRetriesExceededError, Reject

from pyworker.compat.celery.versions import installed_version
from support.waiting import eventually

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = pytest.mark.control

CELERY = installed_version()


def test_retried_task_succeeds_under_the_same_id(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.flaky.delay(2)
    assert result.get(timeout=15) == 2

    def is_told() -> bool:
        text = "\n".join(line for line in stage.worker.lines_after(position) if result.id in line)
        name = f"Task tasks.flaky[{result.id}]"
        assert text.count(f"{name} received") == 3
        assert text.count(f"{name} retry: Retry in 0.01s: ValueError('attempt ") == 2
        assert text.count(f"{name} succeeded in ") == 1
        return True

    eventually(is_told)


def test_exhausted_retries_raise_the_tasks_own_exception(stage: Stage) -> None:
    result = stage.tasks.flaky.delay(99)
    with pytest.raises(ValueError, match="attempt 3"):
        result.get(timeout=15)


def test_exhausted_retries_without_exception_say_so(stage: Stage) -> None:
    result = stage.tasks.retry_without_exception.delay()
    with pytest.raises(MaxRetriesExceededError, match=f"Can't retry tasks.retry_without_exception\\[{result.id}\\]"):
        result.get(timeout=15)


def test_state_is_retry_in_between(stage: Stage) -> None:
    result = stage.tasks.flaky.apply_async((1,), countdown=0)
    assert result.get(timeout=15) == 1
    waiting = stage.tasks.autoretried.signature(("states",)).apply_async()
    waiting.get(timeout=15, propagate=False)
    assert [entry["retries"] for entry in stage.journal("states")] == [0, 1, 2]
    assert waiting.state == "FAILURE"


def test_retry_keeps_exception_and_traceback(stage: Stage) -> None:
    result = stage.tasks.backing_off.delay("state-of-retry")
    eventually(lambda: result.state == "RETRY", deadline_s=10)
    assert repr(result.info) == "KeyError('again')"
    assert "KeyError: 'again'" in result.traceback
    stage.app.control.revoke(result.id)


def test_retry_may_change_the_arguments(stage: Stage) -> None:
    assert stage.tasks.retry_with_other_arguments.delay(0).get(timeout=15) == 3


def test_retry_without_a_limit_goes_on(stage: Stage) -> None:
    stage.tasks.retry_for_ever.delay("for-ever")
    entries = stage.wait_for_journal("for-ever", 13, deadline_s=30)
    assert [entry["retries"] for entry in entries] == list(range(13))


def test_backoff_doubles(stage: Stage) -> None:
    stage.tasks.backing_off.delay("backoff")
    entries = stage.wait_for_journal("backoff", 3, deadline_s=20)
    times = [entry["at"] for entry in entries]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    for gap, expected in zip(gaps, (1, 2)):
        assert expected - 0.05 <= gap < expected + 2


def test_autoretry_stops_at_its_limit(stage: Stage) -> None:
    result = stage.tasks.autoretried.delay("autoretry")
    with pytest.raises(KeyError):
        result.get(timeout=15)
    assert [entry["retries"] for entry in stage.journal("autoretry")] == [0, 1, 2]


def test_excluded_exception_is_not_retried(stage: Stage) -> None:
    with pytest.raises(KeyError):
        stage.tasks.not_retried_for_keys.delay("excluded").get(timeout=15)
    assert len(stage.journal("excluded")) == 1


def test_ignored_task_leaves_no_state(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.ignored.delay()
    stage.worker.wait_for_line(rf"Task tasks\.ignored\[{result.id}\] ignored", after=position)
    assert result.state == "PENDING"
    stage.wait_until_drained()


def test_ignore_after_an_own_state_keeps_it(stage: Stage) -> None:
    result = stage.tasks.own_state_then_ignored.delay()
    eventually(lambda: result.state == "PARKED")
    assert result.info == {"why": "to see"}


def test_rejected_task_runs_once(stage: Stage) -> None:
    result = stage.tasks.rejected.delay("rejected")
    stage.wait_for_journal("rejected", 1)
    stage.wait_until_drained()
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    assert len(stage.journal("rejected")) == 1
    if CELERY >= (5, 7):
        assert isinstance(result.get(timeout=30, propagate=False), Reject)
    else:
        assert result.state == "PENDING"


def test_rejected_with_requeue_comes_back_marked(stage: Stage) -> None:
    result = stage.tasks.rejected_until_redelivered.delay("requeued")
    assert result.get(timeout=20) == "second time"
    assert [entry["redelivered"] for entry in stage.journal("requeued")] == [False, True]
    stage.wait_until_drained()


def test_started_state_names_process_and_node(stage: Stage) -> None:
    result = stage.tasks.started_is_seen.delay("started")
    entry = stage.wait_for_journal("started", 1)[0]
    assert eventually(lambda: result.state == "STARTED")
    assert result.info == {"pid": entry["pid"], "hostname": stage.worker.node_name}
    stage.open_gate("started")
    assert result.get(timeout=30) == "out"


def test_expected_error_is_logged_without_traceback(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.expected_error.delay()
    with pytest.raises(LookupError, match="as announced"):
        result.get(timeout=30)
    line = stage.worker.wait_for_line(
        rf"INFO/.*Task tasks\.expected_error\[{result.id}\] raised expected: LookupError\('as announced'\)",
        after=position,
    )
    assert line
    assert result.state == "FAILURE"
    assert not any("Traceback" in line for line in stage.worker.lines_after(position))


def test_unexpected_error_is_logged_with_traceback(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.raising.delay("unexpected")
    result.get(timeout=30, propagate=False)
    stage.worker.wait_for_line(
        rf"ERROR/.*Task tasks\.raising\[{result.id}\] raised unexpected: ValueError\('unexpected'\)", after=position
    )
    stage.worker.wait_for_line(r"^Traceback \(most recent call last\):", after=position)
    stage.worker.wait_for_line(r"^ValueError: unexpected", after=position)


def test_ignored_result_is_not_stored(stage: Stage) -> None:
    result = stage.tasks.result_ignored.delay("no result")
    stage.wait_for_journal("no result", 1)
    stage.wait_until_drained()
    assert not stage.redis.exists(f"celery-task-meta-{result.id}")


def test_call_may_ask_for_an_ignored_result(stage: Stage) -> None:
    result = stage.tasks.result_ignored.apply_async(("asked",), ignore_result=False)
    if CELERY >= (5, 6):
        assert result.get(timeout=30) == 1
        return
    # Before, the task's own word was the last.
    stage.wait_for_journal("asked", 1)
    stage.wait_until_drained()
    stage.tasks.add.delay(0, 0).get(timeout=30)
    assert not stage.redis.exists(f"celery-task-meta-{result.id}")


def test_error_of_an_ignored_result_may_be_kept(stage: Stage) -> None:
    result = stage.tasks.error_kept.delay()
    eventually(lambda: stage.redis.exists(f"celery-task-meta-{result.id}"))
    assert stage.app.AsyncResult(result.id).state == "FAILURE"


def test_unpickleable_error_still_arrives(stage: Stage) -> None:
    error = stage.tasks.raises_unpickleable.delay().get(timeout=30, propagate=False)
    assert "one and two" in str(error)
    assert "UnpickleableError" in repr(error) or "UnpickleableError" in type(error).__name__


def test_result_that_cannot_be_encoded_fails_the_task(stage: Stage) -> None:
    result = stage.tasks.returns_what_json_cannot.delay()
    error = result.get(timeout=30, propagate=False)
    assert result.state == "FAILURE"
    assert "EncodeError" in type(error).__name__
    assert "is not JSON serializable" in str(error)


def test_cause_of_an_error_is_in_its_traceback(stage: Stage) -> None:
    result = stage.tasks.raises_from_cause.delay()
    with pytest.raises(RuntimeError, match="the effect"):
        result.get(timeout=30)
    assert "KeyError: 'the cause'" in result.traceback
    assert "direct cause of the following exception" in result.traceback

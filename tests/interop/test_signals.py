"""Signals and hooks: which ones, in which process, in which order and with which arguments."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from pyworker.compat.celery.versions import installed_version
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.control

APP = "observed"
CELERY = installed_version()
WORKER_OPTIONS = ("-c", "1")


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry.get("signal") or entry["hook"] for entry in entries]


def run(stage: Stage, signature: Any, count: int, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Run a task alone and return its result with what was seen, at least ``count`` entries."""
    stage.redis.delete("journal:signals")
    result = signature.apply_async(**options)
    entries = stage.wait_for_journal("signals", count)
    return result, entries


def test_success_shows_signals_and_hooks_in_order(stage: Stage) -> None:
    result, entries = run(stage, stage.tasks.succeed.s(1, y=2), 7)
    assert names(entries) == [
        "task_prerun",
        "before_start",
        "body",
        "on_success",
        "task_success",
        "after_return",
        "task_postrun",
    ]
    assert result.get(timeout=30) == 3
    prerun, success, postrun = (entries[at] for at in (0, 4, 6))
    assert prerun["keys"] == ["args", "kwargs", "task", "task_id"]
    assert prerun["sender"] == "observed.succeed"
    assert prerun["arguments"] == {
        "args": "[1]",
        "kwargs": "{'y': 2}",
        "task": "'observed.succeed'",
        "task_id": repr(result.id),
    }
    # The run time is there since Celery 5.7.
    assert success["keys"] == (["result", "runtime"] if CELERY >= (5, 7) else ["result"])
    assert success["arguments"]["result"] == "3"
    assert postrun["keys"] == ["args", "kwargs", "retval", "state", "task", "task_id"]
    assert postrun["arguments"]["state"] == "'SUCCESS'"
    assert entries[1]["args"] == [[1], {"y": 2}]
    assert entries[3]["args"] == [3, [1], {"y": 2}]
    assert entries[5]["args"] == ["SUCCESS", "3", [1], {"y": 2}, "NoneType"]
    assert len({entry["pid"] for entry in entries}) == 1
    assert entries[0]["pid"] != stage.worker.pid


def test_failure_shows_signals_and_hooks_in_order(stage: Stage) -> None:
    _, entries = run(stage, stage.tasks.fail.s("seen"), 6)
    assert names(entries) == [
        "task_prerun",
        "before_start",
        "on_failure",
        "task_failure",
        "after_return",
        "task_postrun",
    ]
    failure = entries[3]
    assert failure["keys"] == ["args", "einfo", "exception", "kwargs", "task_id", "traceback"]
    assert entries[2]["args"] == ["ValueError('seen')", ["seen"], {}, "ExceptionInfo"]
    assert entries[5]["arguments"]["state"] == "'FAILURE'"


def test_retry_shows_signals_and_hooks_in_order(stage: Stage) -> None:
    result, entries = run(stage, stage.tasks.retry_once.s(), 11)
    assert result.get(timeout=30) == "done"
    seen = names(entries)
    assert seen[:5] == ["task_prerun", "before_start", "on_retry", "task_retry", "task_postrun"]
    assert seen[5:] == ["task_prerun", "before_start", "on_success", "task_success", "after_return", "task_postrun"]
    assert entries[3]["keys"] == ["einfo", "reason", "request"]
    assert entries[4]["arguments"]["state"] == "'RETRY'"


def test_ignore_shows_no_outcome(stage: Stage) -> None:
    _, entries = run(stage, stage.tasks.ignore.s(), 3)
    assert names(entries) == ["task_prerun", "before_start", "task_postrun"]
    assert entries[2]["arguments"]["state"] == "'IGNORED'"


def test_reject_shows_its_outcome_in_the_main_process(stage: Stage) -> None:
    # Since Celery 5.7 what is rejected for good counts as failed.
    outcomes = ["task_failure"] if CELERY >= (5, 7) else []
    _, entries = run(stage, stage.tasks.reject.s(), 3 + len(outcomes))
    assert names(entries)[:2] == ["task_prerun", "before_start"]
    assert sorted(names(entries)[2:]) == [*outcomes, "task_postrun"]
    by_name = {entry["signal"]: entry for entry in entries if "signal" in entry}
    assert by_name["task_postrun"]["arguments"]["state"] == "'REJECTED'"
    assert not by_name["task_postrun"]["is_main"]
    assert all(by_name[name]["is_main"] for name in outcomes)


def test_call_override_is_used(stage: Stage) -> None:
    result, entries = run(stage, stage.tasks.called.s(5), 4)
    assert names(entries) == ["task_prerun", "__call__", "task_success", "task_postrun"]
    assert result.get(timeout=30) == 5


def test_task_object_keeps_state_in_its_process(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    first_pid, first = stage.tasks.count_runs.delay().get(timeout=30)
    second_pid, second = stage.tasks.count_runs.delay().get(timeout=30)
    # Nothing of these may fall into the next test.
    eventually(lambda: names(stage.journal("signals")).count("task_postrun") == 2)
    assert second_pid == first_pid
    assert second == first + 1


def test_unknown_task_signals_in_the_main_process(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    stage.app.send_task("observed.nobody", (1,))
    entries = stage.wait_for_journal("signals", 1)
    assert names(entries) == ["task_unknown"]
    assert entries[0]["keys"] == ["exc", "id", "message", "name"]
    assert entries[0]["is_main"]
    assert entries[0]["arguments"]["name"] == "'observed.nobody'"


def test_undecodable_message_signals_rejection(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    with stage.app.producer_pool.acquire(block=True) as producer:
        producer.publish({"hello": "world"}, routing_key="celery", exchange="")
    entries = stage.wait_for_journal("signals", 1)
    assert names(entries) == ["task_rejected"]
    assert entries[0]["keys"] == ["exc", "message"]
    assert entries[0]["is_main"]


def test_revoked_task_signals_in_the_main_process(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    result = stage.tasks.succeed.apply_async((1,), expires=-5)
    entries = stage.wait_for_journal("signals", 1)
    assert names(entries) == ["task_revoked"]
    assert entries[0]["keys"] == ["expired", "request", "signum", "terminated"]
    assert entries[0]["arguments"]["expired"] == "True"
    assert entries[0]["arguments"]["terminated"] == "False"
    assert entries[0]["is_main"]
    eventually(lambda: result.state == "REVOKED")


def test_hard_limit_calls_hooks_in_the_main_process(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    result = stage.tasks.too_long.delay()
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    # How many entries the child adds meanwhile is open.
    # Before 5.7 Celery calls no hooks for a limit, only the signal.
    hooks = ["on_failure", "after_return"] if CELERY >= (5, 7) else []
    wanted = {"task_failure", *hooks}
    eventually(lambda: wanted <= set(names(stage.journal("signals"))))
    entries = stage.journal("signals")
    assert names(entries)[:2] == ["task_prerun", "before_start"]
    # The child may still get to send task_postrun, when TERM unwinds the task before KILL comes.
    in_main = [entry for entry in entries[2:] if entry["pid"] == stage.worker.pid]
    assert {name for name in names(entries[2:]) if name not in names(in_main)} <= {"task_postrun"}
    # Celery tells the failure twice: for the limit and for the process that went with it. Once is enough.
    failures = [entry for entry in in_main if entry.get("signal") == "task_failure"]
    assert [name for name in names(in_main) if name != "task_failure"] == hooks
    assert len(failures) in {1, 2}
    assert {entry["arguments"]["exception"] for entry in failures} == {"'TimeLimitExceeded'"}
    # Nothing that the dying child still writes may fall into the next test.
    child = entries[0]["pid"]
    eventually(lambda: not os.path.exists(f"/proc/{child}"), what=f"end of child {child}")


def test_lost_child_calls_hooks_in_the_main_process(stage: Stage) -> None:
    stage.redis.delete("journal:signals")
    result = stage.tasks.die.delay()
    with pytest.raises(WorkerLostError):
        result.get(timeout=20)
    entries = stage.wait_for_journal("signals", 3)
    # Celery calls no hooks for a lost process, only the signal.
    assert names(entries) == ["task_prerun", "before_start", "task_failure"]
    assert entries[2]["is_main"]
    assert entries[2]["arguments"]["exception"] == "'WorkerLostError'"


def test_started_state_is_published_before_success(stage: Stage) -> None:
    def run_tracked() -> list[str]:
        seen: list[dict[str, Any]] = []
        result = stage.tasks.tracked.delay()
        assert result.get(timeout=30, on_message=seen.append) == "seen"
        # The client may still hear of an earlier test's result.
        return [body["status"] for body in seen if body["task_id"] == result.id]

    # A client that begins to listen when all is over is told nothing: then once more.
    shown = eventually(run_tracked, what="states seen by the client")
    assert shown in (["STARTED", "SUCCESS"], ["SUCCESS"])


@pytest.mark.lanes("parent")
def test_received_signal_sees_a_real_request(kind: Kind) -> None:
    with Stage(kind, APP, options=WORKER_OPTIONS) as stage:
        result = stage.tasks.succeed.delay(1, y=2)
        assert result.get(timeout=30) == 3
        entry = stage.wait_for_journal("received", 1)[0]
        assert entry["keys"] == ["request"]
        assert entry["arguments"]["request"] == "'observed.succeed'"
        assert entry["sender"] == "Consumer"
        assert entry["is_main"]


def test_life_of_a_worker_is_signalled_as_upstream(kind: Kind) -> None:
    with Stage(kind, APP, options=("-c", "2")) as stage:
        results = [stage.tasks.gated.delay("life-gate") for _ in range(2)]
        stage.wait_for_journal("life-gate", 2)
        stage.open_gate("life-gate", 2)
        for result in results:
            result.get(timeout=30)
        stage.worker.send(signal.SIGTERM)
        assert stage.worker.wait() == 0
        entries = stage.journal("life")
    seen = [entry["signal"] for entry in entries]
    main = [entry["signal"] for entry in entries if entry["is_main"]]
    order = [
        "celeryd_init",
        "worker_init",
        "celeryd_after_setup",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    assert [name for name in main if name in order] == order
    assert seen.count("worker_process_init") == 2
    assert seen.count("worker_process_shutdown") == 2
    assert not any(entry["is_main"] for entry in entries if entry["signal"].startswith("worker_process_"))
    by_name = {entry["signal"]: entry for entry in entries}
    assert by_name["celeryd_init"]["keys"] == ["conf", "instance", "options"]
    assert by_name["celeryd_init"]["sender"].startswith("celery@")
    assert by_name["celeryd_after_setup"]["keys"] == ["conf", "instance"]
    assert by_name["worker_shutting_down"]["keys"] == ["exitcode", "how", "sig"]
    assert by_name["worker_shutting_down"]["arguments"] == {"exitcode": "0", "how": "'Warm'", "sig": "'SIGTERM'"}
    assert by_name["worker_process_shutdown"]["keys"] == ["exitcode", "pid"]
    assert by_name["worker_process_shutdown"]["arguments"]["pid"] == str(by_name["worker_process_shutdown"]["pid"])
    assert by_name["worker_process_init"]["keys"] == []
    assert by_name["worker_init"]["keys"] == []
    assert "import_modules" in main

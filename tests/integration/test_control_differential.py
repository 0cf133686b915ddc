"""Every remote control command, asked by the stock client of a stock worker and of ours: the same replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.control_script import (
    CHANGING,
    CUSTOM,
    POOL,
    READING,
    REVOKING,
    anonymous,
    ask,
    differences,
    stats_view,
    told,
)
from support.pair import pair, plain
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.control_script import Command
    from support.stage import Stage

EVERYTHING = (*READING, *CHANGING, *POOL, *REVOKING)
#: Replies in which two libraries differ by nature: what the software is, how its settings are written, its own tasks,
#: the memory (Celery needs psutil to tell it), and how an unknown signal is called.
_OF_THE_LIBRARY = frozenset(("report", "conf", "dump_conf", "memsample", "memdump"))


def fail_for(found: list[str]) -> None:
    if found:
        pytest.fail(f"{len(found)} replies differ:\n" + "\n".join(found), pytrace=False)


def for_own_app(script: Sequence[Command]) -> list[Command]:
    """Leave out what cannot be the same for an application of another library."""
    return [
        each
        for each in script
        if each[0] not in _OF_THE_LIBRARY and "builtins" not in each[1] and each[1].get("signal") != "NOSUCH"
    ]


def test_every_command_is_answered_as_by_the_stock_worker() -> None:
    """The whole script, then with tasks that run, wait and are scheduled while every child is busy."""
    with pair("pyworker-fast", app="either") as (stock, ours):
        found = differences(stock, ours, (*EVERYTHING, *CUSTOM))
        found += busy_differences(stock, ours)
    fail_for(found)


def test_a_worker_of_an_app_of_our_own_answers_the_same() -> None:
    with pair("pyworker-own", app="either") as (stock, ours):
        found = differences(stock, ours, for_own_app((*EVERYTHING, *CUSTOM)))
        found += busy_differences(stock, ours)
    fail_for(found)


@pytest.mark.parametrize("our_kind", ["pyworker-fast", "pyworker-own"])
def test_solo_answers_the_same_and_while_its_task_runs(our_kind: str) -> None:
    # A pool without children cannot grow: ours says so, Celery's has no such method.
    script = [each for each in (*EVERYTHING, *CUSTOM) if each[0] not in ("pool_grow", "pool_shrink")]
    with pair(our_kind, app="either", options=("-P", "solo")) as (stock, ours):
        found = differences(stock, ours, for_own_app(script) if our_kind == "pyworker-own" else script)
        # A stock worker answers nothing now.
        ours.tasks.gated.apply_async(("held",), task_id="run-1")
        ours.wait_for_journal("held", 1, deadline_s=60)
        assert [each["id"] for each in ask(ours, "active")] == ["run-1"]
        assert ask(ours, "ping") == {"ok": "pong"}
        for command in ("pool_grow", "pool_shrink"):
            assert "there are no children" in ask(ours, command)["error"]
        assert ask(ours, "stats")["pool"]["max-concurrency"] == 1
        ours.open_gate("held")
        eventually(lambda: ask(ours, "active") == [], deadline_s=60)
    fail_for(found)


def busy_differences(stock: Stage, ours: Stage) -> list[str]:
    """Ask about two running, one waiting and one scheduled task; then terminate one of the running ones."""
    expected, got = (_with_tasks(stage) for stage in (stock, ours))
    return [told(key, expected[key], got[key]) for key in expected if expected[key] != got[key]]


def _with_tasks(stage: Stage) -> dict[str, Any]:
    stage.tasks.gated.apply_async(("held", 1), task_id="run-1")
    stage.tasks.gated.apply_async(("held",), {"label": 2}, task_id="run-2", priority=3)
    stage.wait_for_journal("held", 2, deadline_s=60)
    stage.tasks.gated.apply_async(("held", "later"), task_id="wait-1")
    stage.tasks.add.apply_async((1, 2), countdown=600, task_id="eta-1")
    eventually(lambda: len(ask(stage, "scheduled")) == 1 and len(ask(stage, "reserved")) == 1, deadline_s=60)
    said = {
        "active": sorted(ask(stage, "active"), key=lambda each: each["id"]),
        "active, safe": sorted(ask(stage, "active", safe=True), key=lambda each: each["id"]),
        "reserved": ask(stage, "reserved"),
        "scheduled": ask(stage, "scheduled"),
        "query_task": dict(sorted(ask(stage, "query_task", ids=["run-1", "wait-1", "eta-1", "none"]).items())),
        "stats": stats_view(ask(stage, "stats")),
        # What waits would start in the place of what is terminated.
        "revoke": ask(stage, "revoke", task_id=["wait-1", "eta-1"]),
        "terminate": ask(stage, "terminate", signal="TERM", task_id="run-1"),
    }
    eventually(lambda: [each["id"] for each in ask(stage, "active")] == ["run-2"], deadline_s=60)
    stage.open_gate("held", 3)
    stage.tasks.add.delay(1, 1).get(timeout=60)
    # A stock worker cannot keep back what its pool holds already: it also ran the one that waited.
    said["total"] = eventually(lambda: ask(stage, "stats")["total"].get("tasks.add"), deadline_s=60)
    return {key: anonymous(plain(value)) for key, value in said.items()}

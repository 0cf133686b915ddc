"""Every remote control command, asked by the stock client of a stock worker and of ours: the same replies."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from support.pair import pair, plain, shape
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stage import Stage

pytestmark = [pytest.mark.control]

_UNSTABLE_STATS = ("total", "uptime", "clock", "rusage")


def ask(stage: Stage, command: str, **arguments: Any) -> Any:
    """Return the one node's reply to a command."""

    def reply() -> Any:
        replies = stage.app.control.broadcast(
            command, arguments=arguments, reply=True, timeout=8, limit=1, destination=[stage.worker.node_name]
        )
        assert replies, f"no reply to {command}"
        return [replies[0][stage.worker.node_name]]

    return eventually(reply, deadline_s=30)[0]


def _stats(reply: Any) -> Any:
    """Keep of the statistics what two workers of the same build share."""
    pool = reply["pool"]
    assert len(pool["processes"]) == pool["max-concurrency"] or pool["processes"]
    kept = {key: value for key, value in reply.items() if key not in _UNSTABLE_STATS}
    kept |= {"pool": shape(pool), "broker": {**reply["broker"], "port": 0}, "pid": type(reply["pid"]).__name__}
    kept |= {key: shape(reply[key]) for key in _UNSTABLE_STATS}
    return kept


def _without_address(reply: Any) -> Any:
    """Put the lines of a report away that name servers' ports, and the modules, which have no order."""
    return [line for line in str(reply["ok"]).splitlines() if "redis://" not in line and "builtins" not in line]


def _conf(reply: Any) -> Any:
    # Celery makes a set of the modules to include.
    return {key: value for key, value in reply.items() if "127.0.0.1" not in str(value)} | {
        "include": sorted(reply["include"])
    }


#: Commands in the order in which they are asked, and what is compared of their replies.
_SCRIPT: tuple[tuple[str, dict[str, Any], Callable[[Any], Any]], ...] = (
    ("ping", {}, plain),
    ("clock", {}, shape),
    ("report", {}, _without_address),
    ("conf", {}, _conf),
    ("dump_conf", {"with_defaults": True}, _conf),
    ("registered", {}, plain),
    ("registered", {"taskinfoitems": ["rate_limit", "acks_late"]}, plain),
    ("dump_tasks", {"builtins": True}, plain),
    ("active_queues", {}, plain),
    ("stats", {}, _stats),
    ("active", {}, plain),
    ("dump_active", {"safe": True}, plain),
    ("reserved", {}, plain),
    ("scheduled", {}, plain),
    ("revoked", {}, plain),
    ("dump_revoked", {}, plain),
    ("query_task", {"ids": ["nobody"]}, plain),
    ("query_task", {"ids": "nobody"}, plain),
    ("query_task", {}, plain),
    ("hello", {"from_node": "somebody@elsewhere", "revoked": ["of-another"]}, shape),
    ("revoked", {}, plain),
    ("hello", {"from_node": "somebody@elsewhere"}, lambda reply: sorted(reply["revoked"])),
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": "3/m"}, plain),
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": 0}, plain),
    ("rate_limit", {"task_name": "tasks.none", "rate_limit": "3/m"}, plain),
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": "three"}, plain),
    ("rate_limit", {"task_name": "tasks.mul"}, plain),
    ("time_limit", {"task_name": "tasks.mul", "soft": 30, "hard": 60}, plain),
    ("time_limit", {"task_name": "tasks.mul"}, plain),
    ("time_limit", {"task_name": "tasks.none", "soft": 1}, plain),
    ("registered", {}, plain),
    ("add_consumer", {"queue": "further"}, plain),
    ("active_queues", {}, plain),
    ("add_consumer", {"queue": "topical", "exchange": "ex", "exchange_type": "topic", "routing_key": "a.#"}, plain),
    ("active_queues", {}, plain),
    ("cancel_consumer", {"queue": "further"}, plain),
    ("cancel_consumer", {"queue": "topical"}, plain),
    ("cancel_consumer", {"queue": "never-there"}, plain),
    ("active_queues", {}, plain),
    ("enable_events", {}, plain),
    ("enable_events", {}, plain),
    ("disable_events", {}, plain),
    ("disable_events", {}, plain),
    ("heartbeat", {}, plain),
    ("pool_grow", {"n": 1}, plain),
    ("stats", {}, lambda reply: [reply["prefetch_count"], reply["pool"]["max-concurrency"]]),
    ("pool_shrink", {"n": 1}, plain),
    ("stats", {}, lambda reply: [reply["prefetch_count"], reply["pool"]["max-concurrency"]]),
    ("pool_restart", {}, plain),
    ("autoscale", {"max": 4, "min": 1}, plain),
    ("memsample", {}, shape),
    ("memdump", {}, shape),
    ("objgraph", {"num": 1, "max_depth": 1}, lambda reply: "error" in reply),
    ("revoke", {"task_id": "not-there"}, plain),
    ("revoke", {"task_id": ["one-of-one"], "terminate": True}, plain),
    ("terminate", {"signal": "KILL", "task_id": "not-there"}, plain),
    ("terminate", {"signal": "NOSUCH", "task_id": "not-there"}, plain),
    ("revoke_by_stamped_headers", {"headers": {"shift": ["night"]}}, plain),
    ("revoke_by_stamped_headers", {"headers": ["shift=day"], "terminate": True}, plain),
    ("revoked", {}, sorted),
    ("no_such_command", {}, lambda reply: "error" in reply),
    ("rate_limit", {}, plain),
    ("ping", {"unexpected": 1}, plain),
)


def test_every_command_is_answered_as_by_the_stock_worker() -> None:
    """The whole script, then with tasks that run, wait and are scheduled."""
    differences = []
    with pair("pyworker-fast") as (stock, ours):
        for command, arguments, view in _SCRIPT:
            difference = _compare(stock, ours, command, arguments, view)
            if difference is not None and command == "active_queues":
                # Either worker changes its queues after it has answered.
                difference = _compare_soon(stock, ours, command, arguments, view)
            if difference is not None:
                differences.append((command, arguments, *difference))
        expected, got = (_with_tasks(stage) for stage in (stock, ours))
        differences += [(key, {}, expected[key], got[key]) for key in expected if expected[key] != got[key]]
    text = "\n".join(f"{name} {arguments}\n  stock {one}\n  ours  {two}" for name, arguments, one, two in differences)
    assert not differences, f"{len(differences)} replies differ:\n{text}"


def _compare(
    stock: Stage, ours: Stage, command: str, arguments: dict[str, Any], view: Callable[[Any], Any]
) -> tuple[Any, Any] | None:
    """Return both replies if they differ."""
    expected, got = (view(ask(stage, command, **arguments)) for stage in (stock, ours))
    return None if expected == got else (expected, got)


def _compare_soon(*question: Any) -> tuple[Any, Any] | None:
    """Ask again until the replies agree; return them if they never do."""
    with suppress(AssertionError):
        eventually(lambda: _compare(*question) is None, deadline_s=10)
        return None
    return _compare(*question)


def _with_tasks(stage: Stage) -> dict[str, Any]:
    """Ask about two running, one waiting and one scheduled task; then terminate one of the running ones."""
    stage.tasks.gated.apply_async(("held", 1), task_id="run-1")
    stage.tasks.gated.apply_async(("held",), {"label": 2}, task_id="run-2", priority=3)
    stage.wait_for_journal("held", 2)
    stage.tasks.gated.apply_async(("held", "later"), task_id="wait-1")
    stage.tasks.add.apply_async((1, 2), countdown=600, task_id="eta-1")
    eventually(lambda: len(ask(stage, "scheduled")) == 1 and len(ask(stage, "reserved")) == 1, deadline_s=30)
    said = {
        "active": sorted(ask(stage, "active"), key=lambda each: each["id"]),
        "active, safe": sorted(ask(stage, "active", safe=True), key=lambda each: each["id"]),
        "reserved": ask(stage, "reserved"),
        "scheduled": ask(stage, "scheduled"),
        "query_task": dict(sorted(ask(stage, "query_task", ids=["run-1", "wait-1", "eta-1", "none"]).items())),
        "prefetch": ask(stage, "stats")["prefetch_count"],
        # What waits would start in the place of what is terminated.
        "revoke": ask(stage, "revoke", task_id=["wait-1", "eta-1"]),
        "terminate": ask(stage, "terminate", signal="TERM", task_id="run-1"),
    }
    eventually(lambda: [each["id"] for each in ask(stage, "active")] == ["run-2"], deadline_s=30)
    stage.open_gate("held", 3)
    stage.tasks.add.delay(1, 1).get(timeout=20)
    # A stock worker cannot keep back what its pool holds already: it also ran the one that waited.
    said["total"] = eventually(lambda: ask(stage, "stats")["total"].get("tasks.add"), deadline_s=20)
    return {key: _anonymous(plain(value)) for key, value in said.items()}


def _anonymous(value: Any) -> Any:
    """Put process ids and clock times away."""
    if isinstance(value, dict):
        hidden = ("worker_pid", "eta")
        return {key: type(each).__name__ if key in hidden else _anonymous(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_anonymous(each) for each in value]
    return "".join(sorted(value)) if isinstance(value, str) and value.startswith("tasks {") else value

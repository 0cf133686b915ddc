"""Remote control commands: Celery's own, filled from the engine; the application's own; refused ones."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown
from celery.worker import state
from celery.worker.control import Panel, control_command

from support.notices import job

pytestmark = pytest.mark.filterwarnings("ignore::celery.platforms.SecurityWarning")
NAME = "unit.work"


@pytest.fixture
def node(app: Any, make_node: Any) -> Any:
    @app.task(name=NAME)  # type: ignore[untyped-decorator]
    def work() -> None:
        pass

    made = make_node()
    made.engine.running = {"a1": 101}
    made.engine.held = {
        "active": [job("", NAME, "a1", (1, "x"), pid=101, seconds=1234.5)],
        "reserved": [job("", NAME, "r1", (2,), pid=102), job("", NAME, "r2", body=b"{bad")],
        "scheduled": [job("", NAME, "s1", (3,), headers={"eta": "2031-01-02T03:04:05+00:00"}, seconds=1.0)],
    }
    return made


def test_ping(node: Any) -> None:
    assert node.command("ping") == {"ok": "pong"}


def test_active_shows_what_runs(node: Any) -> None:
    assert node.command("active") == [
        {
            "id": "a1",
            "name": NAME,
            "args": [1, "x"],
            "kwargs": {},
            "type": NAME,
            "hostname": "unit@host",
            "time_start": 1234.5,
            "acknowledged": True,
            "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
            "worker_pid": 101,
        }
    ]


def test_reserved_shows_what_waits_and_skips_the_unreadable(node: Any, caplog: Any) -> None:
    replies = node.command("reserved")
    assert [reply["id"] for reply in replies] == ["r1"]
    assert (replies[0]["time_start"], replies[0]["acknowledged"], replies[0]["worker_pid"]) == (None, False, None)
    assert "cannot show unit.work[r2]" in caplog.text


def test_scheduled_shows_the_eta(node: Any) -> None:
    [reply] = node.command("scheduled")
    assert (reply["eta"], reply["priority"]) == ("2031-01-02T03:04:05+00:00", 6)
    assert reply["request"]["id"] == "s1"


def test_books_are_empty_again_after_a_command(node: Any) -> None:
    node.command("active")
    node.command("query_task", ids=["a1"])
    assert not state.requests
    assert not list(state.active_requests)
    assert not list(state.reserved_requests)


def test_query_task_names_the_state(node: Any) -> None:
    reply = node.command("query_task", ids=["a1", "r1", "nobody"])
    assert {task_id: found[0] for task_id, found in reply.items()} == {"a1": "active", "r1": "reserved"}


def test_registered_lists_tasks(node: Any) -> None:
    assert node.command("registered") == [NAME]


def test_active_queues_describes_queues(node: Any) -> None:
    [queue] = node.command("active_queues")
    assert (queue["name"], queue["exchange"]["name"], queue["routing_key"]) == ("celery", "celery", "celery")


def test_stats_has_celerys_fields(node: Any) -> None:
    reply = node.command("stats")
    assert set(reply) >= {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"}
    assert reply["pool"]["processes"] == [101, 102]
    assert reply["pool"]["implementation"] == "celery.concurrency.prefork:TaskPool"
    assert reply["pool"]["writes"]["raw"] == "3, 1"
    assert "password" not in reply["broker"]
    assert reply["prefetch_count"] == 8
    assert reply["total"] == {NAME: 3}


def test_revoke_reaches_the_engine(node: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    assert node.command("revoke", task_id="t9") == {"ok": "tasks {'t9'} flagged as revoked"}
    assert node.engine.revoked == ["t9"]
    assert "t9" in state.revoked
    assert "Tasks flagged as revoked: t9" in caplog.text


def test_revoke_with_terminate_signals_the_child(node: Any) -> None:
    assert node.command("revoke", task_id=["a1"], terminate=True, signal="SIGKILL") == {"ok": "terminate: a1"}
    assert node.engine.terminated == [("a1", 9)]
    assert "a1" in node.deliveries.terminated_by_command


def test_terminate_of_an_unknown_task_says_so(node: Any) -> None:
    assert node.command("terminate", signal="SIGTERM", task_id=["nobody"]) == {"ok": "terminate: tasks unknown"}
    assert node.engine.terminated == []


def test_hello_merges_and_answers_with_revoked_ids(node: Any) -> None:
    reply = node.command("hello", from_node="other@host", revoked=["r7"])
    assert list(reply["revoked"]) == ["r7"]
    assert node.engine.revoked == ["r7"]


def test_shutdown_ends_the_worker_without_a_reply(node: Any, caplog: Any) -> None:
    with pytest.raises(WorkerShutdown):
        node.command("shutdown")
    assert node.shut_down == [0]
    assert "Got shutdown from remote" in caplog.text


def test_command_of_the_application_runs_with_the_facades(node: Any) -> None:
    @control_command(name="unit_custom")  # type: ignore[untyped-decorator]
    def custom(command_state: Any, n: int = 1) -> Any:
        consumer = command_state.consumer
        return {"n": n, "hostname": command_state.hostname, "processes": consumer.pool.num_processes}

    try:
        assert node.command("unit_custom", n=3) == {"n": 3, "hostname": "unit@host", "processes": 2}
    finally:
        Panel.data.pop("unit_custom")
        Panel.meta.pop("unit_custom")


def test_unknown_command_is_not_implemented(node: Any) -> None:
    assert node.command("nonsense") is NotImplemented

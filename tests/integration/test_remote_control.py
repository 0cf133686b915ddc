"""Remote control: stock clients ask, the answers have the stock worker's shape."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TaskRevokedError

from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = [pytest.mark.control, pytest.mark.lanes("fast", "library", "parent")]


def ask(stage: Stage, command: str, *arguments: Any) -> Any:
    """Ask the one worker and return its reply, asking again until it has one."""

    def reply() -> Any:
        inspect = stage.app.control.inspect([stage.worker.node_name], timeout=5)
        replies = getattr(inspect, command)(*arguments)
        assert replies, f"no reply to {command}"
        assert set(replies) == {stage.worker.node_name}
        return [replies[stage.worker.node_name]]

    return eventually(reply, deadline_s=20)[0]


def test_ping_is_answered(stage: Stage) -> None:
    assert ask(stage, "ping") == {"ok": "pong"}
    replies = eventually(lambda: stage.app.control.ping(timeout=10, limit=1))
    assert replies == [{stage.worker.node_name: {"ok": "pong"}}]
    assert not stage.app.control.ping(destination=["nobody@nowhere"], timeout=0.5)


def test_registered_lists_the_tasks(stage: Stage) -> None:
    registered = ask(stage, "registered")
    assert registered == sorted(registered)
    assert "tasks.add" in registered
    assert "sum-of-two-numbers" in registered


def test_active_queues_describe_the_queue(stage: Stage) -> None:
    (queue,) = ask(stage, "active_queues")
    assert queue["name"] == "celery"
    assert queue["routing_key"] == "celery"
    assert queue["exchange"]["name"] == "celery"
    assert queue["exchange"]["type"] == "direct"
    assert queue["durable"] is True


def test_active_and_reserved_show_requests(stage: Stage) -> None:
    results = [stage.tasks.gated.delay("control", label=label) for label in range(5)]
    stage.wait_for_journal("control", 2)
    active = ask(stage, "active")
    assert len(active) == 2
    running = {entry["id"] for entry in stage.journal("control")}
    one = active[0]
    assert {each["id"] for each in active} == running
    assert one["name"] == one["type"] == "tasks.gated"
    assert one["args"] == ["control"]
    assert set(one["kwargs"]) == {"label"}
    assert one["hostname"] == stage.worker.node_name
    assert one["acknowledged"] is True
    assert isinstance(one["time_start"], float)
    assert one["worker_pid"] in {entry["pid"] for entry in stage.journal("control")}
    assert one["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}
    reserved = eventually(lambda: ask(stage, "reserved"))
    assert {each["id"] for each in reserved} <= {result.id for result in results} - running
    assert all(each["worker_pid"] is None and each["time_start"] is None for each in reserved)
    stage.open_gate("control", 5)
    for result in results:
        result.get(timeout=15)
    assert eventually(lambda: ask(stage, "active") == [])


def test_scheduled_shows_eta_tasks(stage: Stage) -> None:
    result = stage.tasks.add.apply_async((1, 2), countdown=600)
    (entry,) = eventually(
        lambda: [entry for entry in ask(stage, "scheduled") if entry["request"]["id"] == result.id], deadline_s=15
    )
    assert set(entry) == {"eta", "priority", "request"}
    assert entry["request"]["id"] == result.id
    assert entry["request"]["args"] == [1, 2]
    assert entry["eta"].startswith("20")
    result.revoke()


def test_revoked_task_does_not_run(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.stamped.apply_async(("revoked by id",), countdown=30)
    eventually(lambda: any(each["request"]["id"] == result.id for each in ask(stage, "scheduled")))
    stage.app.control.revoke(result.id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    assert stage.journal("revoked by id") == []
    stage.worker.wait_for_line(rf"Tasks flagged as revoked: {result.id}", after=position)


def test_task_revoked_before_it_is_sent_does_not_run(stage: Stage) -> None:
    task_id = f"revoked-early-{stage.kind.name}"
    position = stage.worker.mark()
    stage.app.control.revoke(task_id)
    stage.worker.wait_for_line(rf"Tasks flagged as revoked: {task_id}", after=position)
    result = stage.tasks.stamped.apply_async(("revoked early",), task_id=task_id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    stage.worker.wait_for_line(rf"Discarding revoked task: tasks\.stamped\[{task_id}\]", after=position)
    assert stage.journal("revoked early") == []


def test_terminated_task_ends_and_its_neighbour_lives(stage: Stage) -> None:
    victim = stage.tasks.gated.delay("victim")
    neighbour = stage.tasks.gated.delay("neighbour of the victim", "alive")
    stage.wait_for_journal("victim", 1)
    stage.wait_for_journal("neighbour of the victim", 1)
    position = stage.worker.mark()
    victim.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError, match="terminated"):
        victim.get(timeout=20)
    stage.worker.wait_for_line(rf"Terminating {victim.id} \(", after=position)
    stage.open_gate("neighbour of the victim")
    assert neighbour.get(timeout=15) == "alive"
    assert stage.tasks.add.delay(1, 1).get(timeout=15) == 2


def test_stats_have_the_stock_fields(stage: Stage) -> None:
    stage.tasks.add.delay(1, 1).get(timeout=15)

    def is_whole(reply: dict[str, Any]) -> bool:
        # The second child may still be starting.
        return bool(reply["total"].get("tasks.add")) and len(reply["pool"]["processes"]) == 2

    stats = eventually(lambda: [reply for reply in [ask(stage, "stats")] if is_whole(reply)])[0]
    assert set(stats) >= {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"}
    assert stats["pid"] == stage.worker.pid
    assert stats["pool"]["max-concurrency"] == 2
    assert stats["broker"]["transport"] == "redis"
    assert stats["broker"]["hostname"] == "127.0.0.1"
    assert stats["broker"]["port"] == stage.server.port
    assert "password" not in stats["broker"]
    assert {"utime", "stime", "maxrss"} <= set(stats["rusage"])


def test_unknown_command_is_answered_with_an_error(stage: Stage) -> None:
    replies = eventually(lambda: stage.app.control.broadcast("no_such_command", reply=True, timeout=10, limit=1))
    assert "error" in replies[0][stage.worker.node_name]


@pytest.mark.parametrize("command", ["ping", "active", "reserved", "scheduled", "registered", "stats", "active_queues"])
def test_command_line_client_prints_the_reply(stage: Stage, command: str) -> None:
    environment = worker_environment(broker=stage.server.url, backend=stage.server.url, lane="producer", extra={})
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "inspect", command, "--json", "--timeout", "5"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=APPS,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert set(json.loads(done.stdout.strip().splitlines()[-1])) == {stage.worker.node_name}


def test_shutdown_command_is_a_warm_shutdown(stage: Stage) -> None:
    stage.app.control.shutdown()
    stage.worker.wait_for_line(r"WARNING/MainProcess\] Got shutdown from remote", deadline_s=20)
    assert stage.worker.wait() == 0
    assert not stage.worker.is_running


def test_no_mailbox_key_is_left_for_ever(stage: Stage) -> None:
    ask(stage, "ping")
    allowed = ("_kombu.binding", "journal:", "gate:", "unacked", "celery")
    strays = {name for name in stage.server.keys_without_expiry() if not name.startswith(allowed)}
    # A stock worker's own reply keys are not ours to judge.
    assert stage.kind.is_stock or strays == set()

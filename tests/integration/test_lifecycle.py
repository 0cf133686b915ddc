"""Start and stop: banner, log texts, signals, exit codes, what becomes of running and reserved tasks."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from support.ports import free_port
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.kinds import Kind

pytestmark = [pytest.mark.control, pytest.mark.lanes("fast", "library")]


@pytest.fixture
def stage(kind: Kind) -> Iterator[Stage]:
    with Stage(kind) as opened:
        yield opened


def test_start_says_what_upstream_says(stage: Stage) -> None:
    worker = stage.worker
    text = worker.log
    for pattern in (
        r"celery@\S+ v\S+",
        r"\[config\]",
        r"\.> app: +tasks:0x[0-9a-f]+",
        rf"\.> transport: +redis://(:\*\*@)?127\.0\.0\.1:{stage.server.port}/0",
        rf"\.> results: +redis://127\.0\.0\.1:{stage.server.port}/0",
        r"\.> concurrency: 2 \(prefork\)",
        r"\.> task events: OFF \(enable -E to monitor tasks in this worker\)",
        r"\[queues\]",
        r"\.> celery +exchange=celery\(direct\) key=celery",
        r"\[tasks\]",
        r"^  \. tasks\.add$",
        rf"INFO/MainProcess\] Connected to redis://(:\*\*@)?127\.0\.0\.1:{stage.server.port}/0",
        r"INFO/MainProcess\] celery@\S+ ready\.",
    ):
        worker.wait_for_line(pattern, deadline_s=1)
    assert "celery.chord_unlock" not in text


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)])
def test_warm_shutdown_finishes_what_runs_and_hands_back_the_rest(
    stage: Stage, number: signal.Signals, exit_code: int
) -> None:
    results = [stage.tasks.gated.delay("warm", label) for label in range(8)]
    stage.wait_for_journal("warm", 2)
    family = stage.worker.family()
    stage.worker.send(number)
    stage.worker.wait_for_line(r"worker: Warm shutdown \(MainProcess\)")
    if not stage.kind.is_stock:
        # It says so before it takes back what its children have not begun.
        eventually(lambda: stage.queue_length() == 6, what="the other tasks are in the queue again")
    stage.open_gate("warm", 2)
    assert stage.worker.wait() == exit_code
    stage.worker.wait_until_gone(family)
    started = [entry["label"] for entry in stage.journal("warm") if entry["what"] == "start"]
    ended = [entry["label"] for entry in stage.journal("warm") if entry["what"] == "end"]
    assert sorted(started) == sorted(ended) == [0, 1]
    assert [results[label].get(timeout=5) for label in (0, 1)] == [0, 1]
    assert stage.queue_length() == 6
    assert stage.unacked() == 0
    stage.new_worker().start()
    stage.open_gate("warm", 6)
    assert [result.get(timeout=20) for result in results] == list(range(8))
    started = [entry["label"] for entry in stage.journal("warm") if entry["what"] == "start"]
    assert sorted(started) == list(range(8))


def test_second_term_is_ignored(stage: Stage) -> None:
    result = stage.tasks.gated.delay("twice", "finished")
    stage.wait_for_journal("twice", 1)
    stage.worker.send(signal.SIGTERM)
    stage.worker.wait_for_line(r"worker: Warm shutdown \(MainProcess\)")
    stage.worker.send(signal.SIGTERM)
    stage.open_gate("twice")
    assert stage.worker.wait() == 0
    assert result.get(timeout=5) == "finished"


def test_second_interrupt_is_cold(stage: Stage) -> None:
    stage.tasks.gated.delay("interrupted")
    stage.wait_for_journal("interrupted", 1)
    family = stage.worker.family()
    stage.worker.send(signal.SIGINT)
    stage.worker.wait_for_line(
        r"worker: Hitting Ctrl\+C again will initiate cold shutdown, terminating all running tasks!"
    )
    stage.worker.wait_for_line(r"worker: Warm shutdown \(MainProcess\)")
    stage.worker.send(signal.SIGINT)
    stage.worker.wait_for_line(r"worker: Hitting Ctrl\+C again will terminate all running tasks!")
    # Celery's worker ends with 0 when the children are gone before it looks.
    assert stage.worker.wait(deadline_s=40) in {0, 1}
    stage.worker.wait_until_gone(family)
    assert [entry["what"] for entry in stage.journal("interrupted")] == ["start"]


def test_quit_is_cold_and_late_tasks_come_back(stage: Stage) -> None:
    results = [stage.tasks.gated_late.delay("quit", label) for label in range(4)]
    stage.wait_for_journal("quit", 2)
    family = stage.worker.family()
    stage.worker.send(signal.SIGQUIT)
    stage.worker.wait_for_line(r"worker: Cold shutdown \(MainProcess\)")
    # See above.
    assert stage.worker.wait(deadline_s=40) in {0, 1}
    stage.worker.wait_until_gone(family)
    stage.new_worker().start()
    stage.open_gate("quit", 8)
    assert [result.get(timeout=30) for result in results] == [0, 1, 2, 3]


def test_idle_worker_stops_at_once(stage: Stage) -> None:
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    family = stage.worker.family()
    assert stage.worker.stop(deadline_s=10) == 0
    stage.worker.wait_until_gone(family)


def test_children_end_with_a_killed_main_process(stage: Stage) -> None:
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    family = stage.worker.family()
    assert len(family) >= 3
    stage.worker.kill()
    stage.worker.wait_until_gone(family)


def test_connection_loss_is_told_and_survived(stage: Stage) -> None:
    position = stage.worker.mark()
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    stage.server.stop(kill=True)
    stage.worker.wait_for_line(r"(Connection to broker lost|Cannot connect to redis)", after=position, deadline_s=30)
    stage.server.start()
    stage.worker.wait_for_line(r"Connected to redis", after=position, deadline_s=60)
    assert eventually(lambda: stage.tasks.add.delay(2, 2).get(timeout=20) == 4, deadline_s=40)


def test_running_task_survives_a_connection_loss(stage: Stage) -> None:
    stage.tasks.busy.delay(3.0, "through")
    stage.wait_for_journal("through", 1)
    for entry in stage.redis.client_list():
        if entry["id"] != str(stage.redis.client_id()):
            stage.redis.client_kill_filter(_id=entry["id"])
    entries = stage.wait_for_journal("through", 2, deadline_s=30)
    assert [entry["what"] for entry in entries[:2]] == ["start", "end"]
    assert stage.tasks.add.delay(2, 2).get(timeout=30) == 4


def test_pidfile_is_written_and_removed(kind: Kind, tmp_path: Path) -> None:
    pidfile = tmp_path / "worker.pid"
    with Stage(kind, options=("-c", "1", "--pidfile", str(pidfile))) as stage:
        assert int(pidfile.read_text()) == stage.worker.pid
        assert stage.worker.stop() == 0
        assert not pidfile.exists()


def test_logfile_takes_the_lines(kind: Kind, tmp_path: Path) -> None:
    stage = Stage(kind, options=("-c", "1", "-f", str(tmp_path / "%n%I.log"), "-n", "scribe@%h")).open(has_worker=False)
    try:
        stage.new_worker().start(is_ready=False)
        result = stage.tasks.add.delay(1, 1)
        assert result.get(timeout=30) == 2
        main = tmp_path / "scribe.log"
        child = tmp_path / "scribe-1.log"
        eventually(lambda: f"Task tasks.add[{result.id}] received" in main.read_text())
        eventually(lambda: f"Task tasks.add[{result.id}] succeeded in" in child.read_text())
        assert f"Task tasks.add[{result.id}] received" not in child.read_text()
    finally:
        stage.close()


def test_solo_pool_runs_tasks_in_the_main_process(kind: Kind) -> None:
    with Stage(kind, options=("-P", "solo")) as stage:
        assert stage.tasks.process_id.delay().get(timeout=30) == stage.worker.pid
        results = [stage.tasks.add.delay(number, 1) for number in range(50)]
        assert [result.get(timeout=30) for result in results] == list(range(1, 51))
        assert stage.worker.stop() == 0


def test_purge_empties_the_queue_first(kind: Kind) -> None:
    stage = Stage(kind).open(has_worker=False)
    try:
        old = [stage.tasks.stamped.delay("purged", number) for number in range(5)]
        stage.new_worker(options=("-c", "1", "--purge")).start()
        assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2
        assert stage.journal("purged") == []
        assert not any(result.ready() for result in old)
    finally:
        stage.close()


def test_stacks_are_written_on_request(stage: Stage) -> None:
    def pool() -> list[int]:
        (stats,) = stage.app.control.inspect([stage.worker.node_name], timeout=10).stats().values()
        return list(stats["pool"]["processes"])

    # A worker is ready before its children are born.
    eventually(lambda: len(pool()) == 2, deadline_s=60, what="two children")
    position = stage.worker.mark()
    os.kill(stage.worker.pid, signal.SIGUSR1)
    stage.worker.wait_for_line(r"(MainThread|File \")", after=position)
    if stage.kind.is_stock:
        return  # it tells of its main process alone
    stage.worker.wait_for_line(r"ForkPoolWorker-1 \(pid \d+, \d+ tasks started\): idle", after=position)
    running = stage.tasks.gated.delay("stacks")
    stage.wait_for_journal("stacks", 1)
    os.kill(stage.worker.pid, signal.SIGUSR1)
    stage.worker.wait_for_line(rf"tasks started\): tasks\.gated\[{running.id}\] for \d", after=position)
    # The child that runs it shows where it is.
    (entry,) = stage.journal("stacks")
    stage.worker.wait_for_line(rf"CHILD {entry['pid']}$", after=position)
    stage.worker.wait_for_line(r"in wait_at_gate$", after=position)
    stage.open_gate("stacks")
    running.get(timeout=20)
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2


@pytest.mark.lanes("fast")
def test_debugger_is_opened_on_request_and_the_worker_goes_on(kind: Kind) -> None:
    environment = {"CELERY_RDBSIG": "1", "CELERY_RDB_PORT": str(free_port())}
    with Stage(kind, options=("-c", "1"), environment=environment) as stage:
        stage.worker.send(signal.SIGUSR2)
        host, port = stage.worker.wait_for_line(r"Ready to connect: telnet (\S+) (\d+)", deadline_s=60).groups()
        with socket.create_connection((host, int(port)), timeout=60) as session, session.makefile("r") as said:
            assert said.readline()
            session.sendall(b"continue\n")
        assert stage.tasks.add.delay(1, 1).get(timeout=60) == 2
        assert stage.worker.stop() == 0

"""What a task may do with its process: subprocesses, threads, signals, output, and dying."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from celery.exceptions import WorkerLostError

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = pytest.mark.control


def test_task_runs_a_subprocess(stage: Stage) -> None:
    assert stage.tasks.run_subprocess.delay().get(timeout=15) == "from a child of a child"
    assert stage.tasks.run_shell_pipeline.delay().get(timeout=15) == "2"


def test_task_starts_a_thread(stage: Stage) -> None:
    assert isinstance(stage.tasks.start_thread.delay().get(timeout=15), int)


def test_task_runs_in_the_main_thread(stage: Stage) -> None:
    assert stage.tasks.is_main_thread.delay().get(timeout=15) is True


def test_task_handles_signals(stage: Stage) -> None:
    assert stage.tasks.handle_own_signal.delay().get(timeout=15) == ["SIGALRM"]
    assert stage.tasks.handle_termination.delay().get(timeout=15) == ["SIGTERM"]
    # The process is as good as before.
    assert stage.tasks.add.delay(1, 1).get(timeout=15) == 2


def test_both_children_work(stage: Stage) -> None:
    results = [stage.tasks.gated.delay("both", number) for number in range(2)]
    entries = stage.wait_for_journal("both", 2)
    assert len({entry["pid"] for entry in entries}) == 2
    assert stage.worker.pid not in {entry["pid"] for entry in entries}
    stage.open_gate("both", 2)
    assert sorted(result.get(timeout=15) for result in results) == [0, 1]


def test_printed_text_reaches_the_log(stage: Stage) -> None:
    position = stage.worker.mark()
    stage.tasks.prints.delay("said by a task").get(timeout=15)
    stage.worker.wait_for_line(r"^\[\d{4}-.*: WARNING/\S*\] said by a task$", after=position)
    stage.worker.wait_for_line(r"^\[\d{4}-.*: WARNING/\S*\] said by a task on stderr$", after=position)


def test_task_logger_names_task_and_id(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.logs.delay("a text")
    result.get(timeout=15)
    stage.worker.wait_for_line(
        rf"^\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}}: INFO/\S+\] tasks\.logs\[{result.id}\]: info: a text$",
        after=position,
    )
    stage.worker.wait_for_line(rf": WARNING/\S+\] tasks\.logs\[{result.id}\]: warning: a text$", after=position)


def test_received_and_succeeded_are_logged_as_upstream(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.add.delay(20, 3)
    result.get(timeout=15)
    stage.worker.wait_for_line(
        rf"^\[\S+ \S+: INFO/MainProcess\] Task tasks\.add\[{result.id}\] received$", after=position
    )
    stage.worker.wait_for_line(
        rf": INFO/ForkPoolWorker-\d+\] Task tasks\.add\[{result.id}\] succeeded in [\d.e-]+s: 23$", after=position
    )


def test_killed_child_loses_only_its_task(stage: Stage) -> None:
    position = stage.worker.mark()
    other = stage.tasks.gated.delay("neighbour", "unharmed")
    stage.wait_for_journal("neighbour", 1)
    result = stage.tasks.kill_own_process.delay(f"killed-{stage.kind.name}")
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        result.get(timeout=20)
    assert result.state == "FAILURE"
    stage.open_gate("neighbour")
    assert other.get(timeout=20) == "unharmed"
    stage.worker.wait_for_line(r"Task handler raised error: WorkerLostError\(", after=position)
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2
    assert len(stage.journal(f"killed-{stage.kind.name}")) == 1


def test_lost_late_task_is_acknowledged_by_default(stage: Stage) -> None:
    result = stage.tasks.kill_own_process_late.delay("late-killed")
    with pytest.raises(WorkerLostError):
        result.get(timeout=20)
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2
    assert len(stage.journal("late-killed")) == 1
    stage.wait_until_drained()


def test_lost_late_task_comes_back_when_the_task_says_so(stage: Stage) -> None:
    result = stage.tasks.kill_own_process_once.delay("comes back")
    assert result.get(timeout=30) == "survived"
    assert len(stage.journal("comes back")) == 2
    stage.wait_until_drained()


def test_exit_code_of_a_lost_child_is_told(stage: Stage) -> None:
    result = stage.tasks.exit_own_process.delay(71)
    error = result.get(timeout=20, propagate=False)
    assert isinstance(error, WorkerLostError)
    assert "exitcode 71" in str(error)


def test_system_exit_in_a_task_loses_the_worker(stage: Stage) -> None:
    result = stage.tasks.raises_system_exit.delay(3)
    error = result.get(timeout=20, propagate=False)
    assert isinstance(error, (WorkerLostError, SystemExit)), repr(error)
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2


def test_idle_child_killed_from_outside_is_replaced(stage: Stage) -> None:
    pid = stage.tasks.process_id.delay().get(timeout=15)
    os.kill(pid, signal.SIGKILL)
    stage.worker.wait_until_gone([pid])
    results = [stage.tasks.gated.delay("replaced") for _ in range(2)]
    entries = stage.wait_for_journal("replaced", 2)
    assert pid not in {entry["pid"] for entry in entries}
    assert len({entry["pid"] for entry in entries}) == 2
    stage.open_gate("replaced", 2)
    for result in results:
        result.get(timeout=15)

"""The frame around the tasks: fork servers that die, restarts, remapped and soft shutdowns, solo's odd ends."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from billiard.exceptions import WorkerLostError

from support.processes import children_of, is_alive, oldest
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")

ONE_CHILD = ("-c", "1")


def fork_servers(stage: Stage) -> list[int]:
    """The living children of the main process that run no tasks: the fork server and its spare."""
    replies = stage.app.control.inspect([stage.worker.node_name], timeout=10).stats()
    (stats,) = replies.values()
    pool = set(stats["pool"]["processes"])
    return [pid for pid in children_of(stage.worker.pid) if pid not in pool and is_alive(pid)]


def server_and_spare(stage: Stage) -> list[int]:
    """Both of them, the one that forks children first."""
    both = eventually(
        lambda: servers if len(servers := fork_servers(stage)) == 2 else [], deadline_s=60, what="server and spare"
    )
    server = oldest(both)
    return [server, *(pid for pid in both if pid != server)]


def test_spare_replaces_a_killed_fork_server_and_gets_a_spare_itself(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD) as stage:
        assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
        for _round in range(3):
            server, _spare = server_and_spare(stage)
            position = stage.worker.mark()
            os.kill(server, signal.SIGKILL)
            stage.worker.wait_for_line("The fork server died; its spare took over", after=position)
            child = stage.tasks.process_id.delay().get(timeout=30)
            os.kill(child, signal.SIGKILL)
            assert stage.tasks.process_id.delay().get(timeout=30) != child
        assert stage.worker.stop() == 0


def test_running_task_survives_the_fork_servers_death(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD) as stage:
        result = stage.tasks.gated.delay("through", "done")
        stage.wait_for_journal("through", 1)
        os.kill(server_and_spare(stage)[0], signal.SIGKILL)
        stage.worker.wait_for_line("its spare took over")
        stage.open_gate("through")
        assert result.get(timeout=30) == "done"


def test_worker_without_any_fork_server_finishes_and_ends_as_failed(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD) as stage:
        result = stage.tasks.gated.delay("last", "done")
        stage.wait_for_journal("last", 1)
        waiting = stage.tasks.add.delay(1, 1)
        family = stage.worker.family()
        both = server_and_spare(stage)
        # Stopped meanwhile: otherwise the first one's death may have a new spare made before the second one dies.
        stage.worker.send(signal.SIGSTOP)
        for pid in both:
            os.kill(pid, signal.SIGKILL)
        stage.worker.send(signal.SIGCONT)
        stage.worker.wait_for_line("CRITICAL.*Cannot replace the fork server")
        stage.open_gate("last")
        assert stage.worker.wait() == 1
        assert result.get(timeout=30) == "done"
        stage.worker.wait_until_gone(family)
        assert stage.queue_length() == 1
        stage.new_worker().start()
        assert waiting.get(timeout=30) == 2


def test_hangup_starts_the_program_anew_under_the_same_process_id(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD) as stage:
        pid = stage.worker.pid
        before = stage.tasks.process_id.delay().get(timeout=30)
        position = stage.worker.mark()
        stage.worker.send(signal.SIGHUP)
        stage.worker.wait_for_line(r"Restarting celery worker \(.*-A tasks worker.*\)", after=position)
        stage.worker.wait_for_line(r"ready\.$", after=position)
        assert stage.worker.pid == pid
        assert stage.tasks.process_id.delay().get(timeout=30) != before
        eventually(lambda: not is_alive(before), what="the end of the old child")
        assert stage.worker.stop() == 0


def test_remapped_term_is_cold_and_the_late_task_comes_back(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD, environment={"REMAP_SIGTERM": "SIGQUIT"}) as stage:
        result = stage.tasks.gated_late.delay("remapped", "done")
        stage.wait_for_journal("remapped", 1)
        stage.worker.send(signal.SIGTERM)
        stage.worker.wait_for_line(r"worker: Cold shutdown \(MainProcess\)")
        assert stage.worker.wait() == 0
        assert stage.queue_length() == 1
        stage.new_worker().start()
        stage.open_gate("remapped", 2)
        assert result.get(timeout=30) == "done"


def test_soft_shutdown_lets_a_task_end_that_is_quick_enough(kind: Kind) -> None:
    options = (*ONE_CHILD, "--", "worker.soft_shutdown_timeout=20")
    with Stage(kind, options=options) as stage:
        result = stage.tasks.gated.delay("soft", "done")
        stage.wait_for_journal("soft", 1)
        stage.worker.send(signal.SIGQUIT)
        stage.worker.wait_for_line("Initiating Soft Shutdown, terminating in 20.0 seconds")
        stage.open_gate("soft")
        assert stage.worker.wait(deadline_s=15) == 0
        assert result.get(timeout=30) == "done"


def test_soft_shutdown_cancels_what_takes_longer(kind: Kind) -> None:
    options = (*ONE_CHILD, "--", "worker.soft_shutdown_timeout=0.5")
    with Stage(kind, options=options) as stage:
        result = stage.tasks.gated.delay("long", "never")
        stage.wait_for_journal("long", 1)
        stage.worker.send(signal.SIGQUIT)
        assert stage.worker.wait() == 0
        assert result.state == "RETRY"
        assert [entry["what"] for entry in stage.journal("long")] == ["start"]


def test_solo_worker_goes_on_after_a_task_that_exits(kind: Kind) -> None:
    with Stage(kind, options=("-P", "solo")) as stage:
        with pytest.raises(WorkerLostError, match="exitcode 3"):
            stage.tasks.raises_system_exit.delay(3).get(timeout=30)
        assert stage.tasks.process_id.delay().get(timeout=30) == stage.worker.pid
        assert stage.worker.stop() == 0


def test_solo_worker_finishes_its_task_when_told_to_stop(kind: Kind) -> None:
    with Stage(kind, options=("-P", "solo")) as stage:
        result = stage.tasks.gated.delay("alone", "done")
        stage.wait_for_journal("alone", 1)
        stage.worker.send(signal.SIGTERM)
        stage.worker.wait_for_line(r"worker: Warm shutdown \(MainProcess\)")
        stage.open_gate("alone")
        assert stage.worker.wait() == 0
        assert result.get(timeout=30) == "done"


def test_orphans_of_tasks_leave_no_zombies(kind: Kind) -> None:
    with Stage(kind, options=ONE_CHILD) as stage:
        assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
        os.kill(server_and_spare(stage)[0], signal.SIGKILL)
        stage.worker.wait_for_line("its spare took over")

        def no_zombies() -> bool:
            return all(is_alive(pid) for pid in children_of(stage.worker.pid))

        assert eventually(no_zombies, deadline_s=40, what="the dead fork server to be reaped")


@pytest.mark.lanes("fast")
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)])
def test_signal_while_neighbours_are_asked_is_a_warm_shutdown(
    kind: Kind, number: signal.Signals, exit_code: int
) -> None:
    with Stage(kind, options=("-c", "1", "-n", "first@%h")) as stage:
        first = stage.worker
        # Who does not answer is waited for a second.
        first.send(signal.SIGSTOP)
        try:
            second = stage.new_worker(options=("-c", "1", "-n", "second@%h")).start(is_ready=False)
            second.wait_for_line("mingle: searching for neighbors", deadline_s=60)
            second.send(number)
            assert second.wait(deadline_s=60) == exit_code
        finally:
            first.send(signal.SIGCONT)

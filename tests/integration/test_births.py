"""Children that are killed, held up or slow while they come into the world: each place has one child, and only one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.processes import children_of, is_alive, oldest
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")


def traces(directory: Path, what: str) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in directory.glob(f"{what}-*")]


def test_child_killed_before_its_first_word_is_replaced(kind: Kind, tmp_path: Path) -> None:
    with Stage(kind, "newborn", options=("-c", "1"), environment={"TEST_BIRTH_DIRECTORY": str(tmp_path)}) as stage:
        first = stage.tasks.process_id.delay().get(timeout=60)
        (tmp_path / "die").touch()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: not (tmp_path / "die").exists(), deadline_s=60, what="the successor's early death")
        assert stage.tasks.process_id.delay().get(timeout=60) != first
        assert stage.worker.stop() == 0


def test_child_that_outlives_the_fork_server_unnoticed_gets_no_twin(kind: Kind, tmp_path: Path) -> None:
    """It was forked and has not said so when its fork server dies: the spare must not fork it once more."""
    with Stage(kind, "newborn", options=("-c", "2"), environment={"TEST_BIRTH_DIRECTORY": str(tmp_path)}) as stage:

        def pool() -> list[int]:
            (stats,) = stage.app.control.inspect([stage.worker.node_name], timeout=10).stats().values()
            return [int(pid) for pid in stats["pool"]["processes"]]

        first, second = eventually(lambda: len(pool()) == 2 and pool(), deadline_s=60, what="two children")
        server = oldest(pid for pid in children_of(stage.worker.pid) if pid not in (first, second))
        (tmp_path / "hold").touch()
        os.kill(first, signal.SIGKILL)
        (held,) = eventually(lambda: traces(tmp_path, "held"), deadline_s=60, what="a child that has said nothing yet")
        os.kill(server, signal.SIGKILL)
        stage.worker.wait_for_line("The fork server died; its spare took over", deadline_s=60)
        # The spare does one thing after the other: when it has forked this one, it has forked everything before.
        os.kill(second, signal.SIGKILL)
        eventually(lambda: set(traces(tmp_path, "held")) - {held}, deadline_s=60, what="the second one's successor")
        living = [pid for pid in children_of(stage.worker.pid) if is_alive(pid)]
        assert len(living) == 4, "two children, a fork server and its spare"
        (tmp_path / "hold").unlink()
        assert stage.tasks.process_id.delay().get(timeout=60) in living
        assert held in eventually(lambda: len(pool()) == 2 and pool(), deadline_s=60, what="two children again")
        assert stage.worker.stop() == 0


@pytest.mark.control
def test_child_that_does_not_come_up_in_time_is_replaced(kind: Kind, tmp_path: Path) -> None:
    """One that comes after another; the stock worker does not watch over the first ones."""
    options = ("-c", "1", "--", "worker.proc_alive_timeout=0.5")
    with Stage(kind, "newborn", options=options, environment={"TEST_BIRTH_DIRECTORY": str(tmp_path)}) as stage:
        first = stage.tasks.process_id.delay().get(timeout=60)
        (tmp_path / "dawdle").touch()
        os.kill(first, signal.SIGKILL)
        stage.worker.wait_for_line(
            r"Timed out waiting for UP message from <ForkProcess\(ForkPoolWorker-\d+, started daemon\)>", deadline_s=60
        )
        (late, *_others) = traces(tmp_path, "dawdling")
        eventually(lambda: not is_alive(late), deadline_s=60, what="the end of the child that was too late")
        (tmp_path / "dawdle").unlink()
        assert stage.tasks.process_id.delay().get(timeout=60) not in (first, late)

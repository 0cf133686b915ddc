"""Stock Celery workers and pyworker on the same queues: each task once, whoever dies, and the way back."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from support.kinds import STOCK, Kind
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.worker import WorkerProcess

pytestmark = pytest.mark.lanes("fast")

VISIBILITY_TIMEOUT_S = 5


@pytest.fixture
def fleet(kind: Kind) -> Iterator[Stage]:
    """A server and an app with a visibility timeout of 5 s; the tests start the workers they need."""
    stage = Stage(kind, "impatient", options=("-c", "2"), has_notebook=True).open(has_worker=False)
    yield stage
    stage.close()


def executions(stage: Stage, name: str) -> dict[str, int]:
    return {member: int(count) for member, count in stage.notes.hgetall(f"executions:{name}").items()}


def publish(stage: Stage, task: Any, name: str, count: int) -> None:
    """Publish many counting tasks over one connection."""
    with stage.app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            task.apply_async((name, str(number)), producer=producer, ignore_result=True)


def wait_for_executions(stage: Stage, name: str, count: int, *, deadline_s: float) -> dict[str, int]:
    eventually(
        lambda: int(stage.notes.hlen(f"executions:{name}")) >= count,
        deadline_s=deadline_s,
        what=f"{count} different executions of {name}",
    )
    return executions(stage, name)


@pytest.mark.slow
def test_shared_queue_runs_every_task_once(fleet: Stage, request: pytest.FixtureRequest) -> None:
    count = 20_000 if request.config.getoption("--full") else 2_000
    ours = fleet.new_worker().start()
    stock = fleet.new_worker(STOCK, options=("-c", "1", "-n", "stock@%h")).start()
    publish(fleet, fleet.tasks.count_early, "shared", count)
    done = wait_for_executions(fleet, "shared", count, deadline_s=180)
    fleet.wait_until_drained(deadline_s=30)
    assert len(done) == count
    assert set(executions(fleet, "shared").values()) == {1}
    # Both took part: neither starves the other.
    shares = {int(pid): int(share) for pid, share in fleet.notes.hgetall("shares:shared").items()}
    print(f"{count} tasks: {shares.get(ours.pid)} by pyworker, {shares.get(stock.pid)} by the stock worker")
    assert set(shares) == {ours.pid, stock.pid}
    assert (ours.is_running, stock.is_running) == (True, True)


@pytest.mark.parametrize("victim", ["ours", "stock"])
def test_survivor_finishes_what_a_killed_worker_held(fleet: Stage, victim: str) -> None:
    """Both hold as much as they may, so that no BRPOP of the stock worker is in flight: that window is its own."""
    workers: dict[str, WorkerProcess] = {
        "ours": fleet.new_worker(options=("-c", "2", "-n", "ours@%h")).start(),
        "stock": fleet.new_worker(STOCK, options=("-c", "2", "-n", "stock@%h")).start(),
    }
    count = 40
    results = [fleet.tasks.gated_late.delay("killed", number) for number in range(count)]
    fleet.wait_for_journal("killed", 4)
    eventually(lambda: fleet.unacked() >= 16, what="both workers hold their prefetch count")
    workers[victim].kill_all()
    fleet.open_gate("killed", 3 * count)
    assert [result.get(timeout=60) for result in results] == list(range(count))
    fleet.wait_until_drained(deadline_s=60)
    started = [entry["label"] for entry in fleet.journal("killed")]
    print(f"SIGKILL of {victim}: {len(started) - count} of {count} tasks started again")
    assert set(started) == set(range(count))
    # Two ran in the killed worker; no other task may run twice.
    assert len(started) - count <= 2


def test_dead_pyworkers_messages_reach_another_within_seconds(kind: Kind) -> None:
    """Long before the visibility timeout, an hour here."""
    stage = Stage(kind, "tasks", options=("-c", "2")).open(has_worker=False)
    try:
        first = stage.new_worker(options=("-c", "2", "-n", "first@%h")).start()
        results = [stage.tasks.gated_late.delay("takeover", number) for number in range(6)]
        stage.wait_for_journal("takeover", 2)
        second = stage.new_worker(options=("-c", "2", "-n", "second@%h")).start()
        first.kill_all()
        stage.open_gate("takeover", 12)
        assert [result.get(timeout=30) for result in results] == list(range(6))
        assert second.is_running
        stage.wait_until_drained()
        started = [entry["label"] for entry in stage.journal("takeover") if entry["what"] == "start"]
        assert sorted(set(started)) == list(range(6))
        assert len(started) <= 8
    finally:
        stage.close()


def test_stock_worker_drains_after_rollback_and_side_keys_expire(fleet: Stage) -> None:
    ours = fleet.new_worker(options=("-c", "2", "-n", "ours@%h")).start()
    publish(fleet, fleet.tasks.count_late, "warm-up", 50)
    wait_for_executions(fleet, "warm-up", 50, deadline_s=30)
    # Less than the visibility timeout: a stock worker that holds a message for longer runs it twice.
    countdown_s = VISIBILITY_TIMEOUT_S - 1
    eta = fleet.tasks.count_late.apply_async(("rollback", "eta"), countdown=countdown_s)
    blockers = [fleet.tasks.gated_late.delay("rollback-gate", number) for number in range(2)]
    fleet.wait_for_journal("rollback-gate", 2)
    publish(fleet, fleet.tasks.count_late, "rollback", 100)
    fleet.open_gate("rollback-gate", 2)
    assert ours.stop() == 0
    for blocker in blockers:
        blocker.get(timeout=5)
    # All that is left of us are kombu's own keys, results and side keys that expire.
    allowed = ("celery", "unacked", "_kombu.binding")
    strays = {name for name in fleet.server.keys_without_expiry() if not name.startswith(allowed)}
    assert strays == set()
    assert fleet.unacked() == 0
    fleet.new_worker(STOCK, options=("-c", "2", "-n", "stock@%h")).start()
    done = wait_for_executions(fleet, "rollback", 101, deadline_s=60)
    assert set(done.values()) == {1}
    assert eta.get(timeout=30) == 1


def test_side_keys_of_a_killed_worker_expire(fleet: Stage) -> None:
    ours = fleet.new_worker(options=("-c", "2", "-n", "ours@%h")).start()
    fleet.tasks.gated_late.delay("never")
    fleet.wait_for_journal("never", 1)
    ours.kill_all()
    allowed = ("celery", "unacked", "_kombu.binding")
    strays = {name for name in fleet.server.keys_without_expiry() if not name.startswith(allowed)}
    assert strays == set()


def test_eta_beyond_the_visibility_timeout_runs_once_beside_a_sweeping_stock_worker(fleet: Stage) -> None:
    ours = fleet.new_worker(options=("-c", "2", "-Q", "ours", "-n", "ours@%h")).start()
    # The stock worker reads another queue, but restores everything on the server that looks abandoned.
    fleet.new_worker(STOCK, options=("-c", "1", "-Q", "other", "-n", "stock@%h")).start()
    eta = datetime.now(timezone.utc) + timedelta(seconds=2.5 * VISIBILITY_TIMEOUT_S)
    held = [
        fleet.tasks.count_late.apply_async(("eta", str(number)), eta=eta, queue="ours", ignore_result=True)
        for number in range(10)
    ]
    long_one = fleet.tasks.count_late_busy.apply_async(("long", "1", 2.4 * VISIBILITY_TIMEOUT_S), queue="ours")
    done = wait_for_executions(fleet, "eta", len(held), deadline_s=40)
    assert set(done.values()) == {1}
    assert long_one.get(timeout=30) == 1
    fleet.wait_until_drained("ours", deadline_s=30)
    assert set(executions(fleet, "eta").values()) == {1}
    assert executions(fleet, "long") == {"1": 1}
    ours.send(signal.SIGTERM)
    assert ours.wait() == 0

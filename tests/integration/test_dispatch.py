"""Dispatch: no short task waits behind a long one, reserves go back, prefetch limits hold."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast", "library")


def starts(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["what"] == "start"]


def test_long_task_holds_up_no_short_one(kind: Kind) -> None:
    """One gated task and 1,000 short ones on two children: all short ones end while the long one still runs."""
    with Stage(kind, options=("-c", "2")) as stage:
        long_one = stage.tasks.gated.delay("long", "long")
        stage.wait_for_journal("long", 1)
        with stage.app.producer_pool.acquire(block=True) as producer:
            results = [stage.tasks.add.apply_async((number, 1), producer=producer) for number in range(1000)]
        assert [result.get(timeout=60) for result in results] == list(range(1, 1001))
        assert not long_one.ready()
        stage.open_gate("long")
        assert long_one.get(timeout=30) == "long"


def test_long_task_among_short_ones_holds_up_no_short_one(kind: Kind) -> None:
    """The same with the long one in the middle of the queue, when reserves have grown on short tasks."""
    with Stage(kind, options=("-c", "2")) as stage:
        with stage.app.producer_pool.acquire(block=True) as producer:
            before = [stage.tasks.add.apply_async((number, 1), producer=producer) for number in range(1500)]
            long_one = stage.tasks.gated.apply_async(("amid", "long"), producer=producer)
            after = [stage.tasks.add.apply_async((number, 2), producer=producer) for number in range(500)]
        for result in before + after:
            result.get(timeout=60)
        assert not long_one.ready()
        stage.open_gate("amid")
        assert long_one.get(timeout=30) == "long"


def test_short_tasks_take_about_as_long_as_one_child_needs(kind: Kind) -> None:
    """Long work beside short tasks: measured against the same tasks on one child alone."""
    with Stage(kind, options=("-c", "1")) as alone:
        for number in range(300):
            alone.tasks.burn.apply_async((0.002, "alone", number), ignore_result=True)
        entries = alone.wait_for_journal("alone", 600, deadline_s=60)
        needed_s = max(entry["at"] for entry in entries) - min(entry["at"] for entry in entries)
    with Stage(kind, options=("-c", "2")) as stage:
        # Longer than the short ones take on any machine; it is cut off when they are done.
        stage.tasks.busy.apply_async((120.0, "long"), ignore_result=True)
        stage.wait_for_journal("long", 1)
        for number in range(300):
            stage.tasks.burn.apply_async((0.002, "short", number), ignore_result=True)
        entries = stage.wait_for_journal("short", 600, deadline_s=60)
        taken_s = max(entry["at"] for entry in entries) - min(entry["at"] for entry in entries)
        assert len(stage.journal("long")) == 1, "the long task was over before the short ones"
        print(f"one child alone {needed_s:.2f} s, beside the long task {taken_s:.2f} s")
        assert taken_s < 2 * needed_s + 1
        stage.worker.send(signal.SIGQUIT)
        stage.worker.wait()


def test_reserve_is_handed_back_when_long_tasks_come(kind: Kind) -> None:
    """A reserve that grew on short tasks goes back to the queue, where another worker can take it."""
    with Stage(kind, options=("-c", "1", "-n", "first@%h")) as stage:
        with stage.app.producer_pool.acquire(block=True) as producer:
            warm = [stage.tasks.add.apply_async((number, 1), producer=producer) for number in range(2000)]
            # Before the gated ones come: on a slow machine short tasks are handed back too, and wait behind them.
            for result in warm:
                result.get(timeout=60)
            gated = [stage.tasks.gated.apply_async(("reserve", number), producer=producer) for number in range(100)]
        stage.wait_for_journal("reserve", 1)
        # The floor, concurrency x multiplier, and what runs; everything above it is back in the queue.
        eventually(lambda: stage.queue_length() >= 100 - 1 - 4, deadline_s=20, what="the reserve is handed back")
        stage.new_worker(options=("-c", "4", "-n", "second@%h")).start()
        entries = stage.wait_for_journal("reserve", 5)
        assert len({entry["pid"] for entry in starts(entries)}) == 5
        stage.open_gate("reserve", 200)
        for result in gated:
            result.get(timeout=60)
        done = [entry["label"] for entry in starts(stage.journal("reserve"))]
        assert sorted(done) == list(range(100))


def test_prefetch_of_one_reserves_no_more_than_the_children(kind: Kind) -> None:
    with Stage(kind, options=("-c", "2", "--prefetch-multiplier", "1")) as stage:
        gated = [stage.tasks.gated_late.delay("one", number) for number in range(20)]
        stage.wait_for_journal("one", 2)
        eventually(lambda: stage.unacked() <= 4 and stage.queue_length() >= 16)
        assert len(stage.journal("one")) == 2
        stage.open_gate("one", 20)
        for result in gated:
            result.get(timeout=30)


def test_disabled_prefetch_holds_only_what_runs(kind: Kind) -> None:
    with Stage(kind, options=("-c", "2", "--disable-prefetch")) as stage:
        gated = [stage.tasks.gated_late.delay("none", number) for number in range(20)]
        stage.wait_for_journal("none", 2)
        eventually(lambda: stage.unacked() == 2 and stage.queue_length() == 18)
        stage.open_gate("none", 20)
        for result in gated:
            result.get(timeout=30)


def test_eta_tasks_do_not_use_up_the_prefetch(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1", "--prefetch-multiplier", "1")) as stage:
        for number in range(200):
            stage.tasks.add.apply_async((number, 1), countdown=3600, ignore_result=True)
        eventually(lambda: stage.queue_length() == 0 and stage.unacked() == 200, what="all ETA tasks held")
        assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2

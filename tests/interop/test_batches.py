"""celery-batches, the real package: its strategy keeps messages and hands the pool one call for many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = [pytest.mark.control, pytest.mark.lanes("fast")]

APP = "batched"


def test_full_batch_runs_at_once_and_a_rest_after_the_interval(stage: Stage) -> None:
    results = [stage.tasks.count.delay(number) for number in range(23)]
    assert [result.get(timeout=30) for result in results] == [number * 2 for number in range(23)]
    batches = [entry["numbers"] for entry in stage.journal("batches")]
    assert sorted(number for batch in batches for number in batch) == list(range(23))
    assert max(len(batch) for batch in batches) == 10
    stage.wait_until_drained()
    assert stage.tasks.add.delay(1, 2).get(timeout=20) == 3


def test_late_acknowledged_batch_is_held_until_it_is_done(stage: Stage) -> None:
    for number in range(5):
        stage.tasks.gather.delay(number)
    stage.wait_for_journal("gather", 1)
    assert stage.unacked() == 5
    stage.open_gate("gather")
    stage.wait_until_drained()
    assert [entry["what"] for entry in stage.journal("gather")] == ["start", "end"]


def test_failing_batch_leaves_the_worker_well(stage: Stage) -> None:
    position = stage.worker.mark()
    for number in range(2):
        stage.tasks.broken.delay(number)
    stage.worker.wait_for_line("this batch does not work", after=position)
    stage.wait_until_drained()
    assert stage.tasks.add.delay(2, 2).get(timeout=20) == 4


def test_what_waits_for_its_batch_goes_back_at_a_stop(kind: Kind) -> None:
    with Stage(kind, APP) as own:
        for number in range(7):
            own.tasks.patient.delay(number)
        eventually(lambda: own.unacked() == 7, deadline_s=20)
        assert own.worker.stop() == 0
        assert own.queue_length() == 7
        assert own.unacked() == 0

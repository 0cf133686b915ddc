"""Extensions of the worker: boot steps, a message consumer, a control command, ``worker.state``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.exceptions import TaskRevokedError

from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = [pytest.mark.control, pytest.mark.lanes("fast")]

APP = "stepped"


def test_steps_are_made_and_started_in_the_main_process(stage: Stage) -> None:
    stage.tasks.add.delay(1, 1).get(timeout=20)
    steps = [(entry["step"], entry["event"]) for entry in stage.journal("steps")]
    assert steps[:1] == [("ticker", "init")]
    assert sorted(steps) == [("ticker", "init"), ("ticker", "start"), ("watcher", "start")]
    watcher = next(entry for entry in stage.journal("steps") if entry["step"] == "watcher")
    assert watcher["queues"] == ["celery"]
    assert (watcher["strategies"], watcher["processes"], watcher["is_controlled"]) == (True, 2, True)


def test_timer_of_the_worker_runs(stage: Stage) -> None:
    assert eventually(lambda: len(stage.journal("ticks")) >= 3)
    assert {entry["app"] for entry in stage.journal("ticks")} == {"stepped"}


def test_own_messages_are_consumed(stage: Stage) -> None:
    with stage.app.producer_or_acquire() as producer:
        for number in range(5):
            producer.publish(
                {"number": number},
                exchange="own-messages",
                routing_key="own-messages",
                serializer="json",
                declare=[stage.tasks.OWN_QUEUE],
            )
    assert eventually(lambda: len(stage.journal("own-messages")) == 5)
    assert [entry["body"]["number"] for entry in stage.journal("own-messages")] == list(range(5))
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2


def test_own_control_command_answers(stage: Stage) -> None:
    [reply] = stage.app.control.broadcast("doubled", {"number": 21}, reply=True, timeout=10, limit=1)
    assert reply == {stage.worker.node_name: {"doubled": 42, "hostname": stage.worker.node_name, "processes": 2}}


def test_id_put_into_the_set_of_revoked_ones_is_not_run(stage: Stage) -> None:
    result = stage.tasks.add.apply_async((1, 1), task_id="revoked-when-ready")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)


def test_steps_are_stopped_in_reverse(kind: Kind) -> None:
    with Stage(kind, APP) as own:
        own.tasks.add.delay(1, 1).get(timeout=20)
        assert own.worker.stop() == 0
        ends = [(entry["step"], entry["event"]) for entry in own.journal("steps")][3:]
    assert ends == [("watcher", "stop"), ("ticker", "stop"), ("watcher", "shutdown")]

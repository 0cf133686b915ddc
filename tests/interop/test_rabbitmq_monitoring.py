"""Remote control and events on RabbitMQ and SQLite: the stock worker's replies and streams, for both kinds of app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.control_script import CHANGING, CUSTOM, POOL, READING, REVOKING, differences, stats_view
from support.event_recorder import Recorder, view
from support.pair import pair
from support.rabbitmq_stage import RabbitmqStage
from support.sqlite_stage import SqliteStage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.control_script import Command
    from support.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]
DEADLINE_S = 60.0
#: What two libraries say of themselves; see ``tests/integration/test_control_differential.py``.
_OF_THE_LIBRARY = frozenset(("report", "conf", "dump_conf", "memsample", "memdump"))


@pytest.mark.parametrize("our_kind", ["pyworker-fast", "pyworker-own"])
@pytest.mark.parametrize("place", [RabbitmqStage, SqliteStage])
def test_commands_and_events_are_the_stock_workers(our_kind: str, place: type[Stage]) -> None:
    script: list[Command] = [
        each if place is RabbitmqStage or each[2] is not stats_view else (each[0], each[1], _without_loop)
        for each in (*READING, *CHANGING, *POOL, *REVOKING, *CUSTOM)
        if our_kind != "pyworker-own"
        or (each[0] not in _OF_THE_LIBRARY and "builtins" not in each[1] and each[1].get("signal") != "NOSUCH")
    ]
    with pair(our_kind, app="either", options=("-c", "1"), stage=place) as (stock, ours):
        streams = [_stream(stage) for stage in (stock, ours)]
        found = differences(stock, ours, script)
    if found:
        pytest.fail(f"{len(found)} replies differ:\n" + "\n".join(found), pytrace=False)
    assert streams[1] == streams[0]


def _without_loop(reply: Any) -> Any:
    """Statistics without what a stock worker has on transports with an event loop only; ours has it everywhere."""
    seen = stats_view(reply)
    del seen["pool"]["writes"], seen["broker"]["heartbeat"]
    return seen


def _stream(stage: Stage) -> dict[str, list[dict[str, object]]]:
    """Run a few tasks; return their events."""
    # Not by -E: Celery cannot turn off again what was on from the start.
    eventually(lambda: stage.app.control.enable_events(reply=True, timeout=20, limit=1), deadline_s=DEADLINE_S)
    with Recorder(stage.app) as recorder:
        stage.tasks.add.apply_async((1, 2), task_id="ok")
        stage.tasks.raising.apply_async(("why",), task_id="bad")
        stage.tasks.announcing.apply_async((40,), task_id="own")
        recorder.wait_for("task-succeeded", uuid="ok")
        recorder.wait_for("task-failed", uuid="bad")
        recorder.wait_for("task-progress", uuid="own")
        recorder.wait_for("task-succeeded", uuid="own")
        seen = recorder.of_tasks()
    # What a task sends by itself carries its child's clock, which stands anywhere among the worker's.
    return {
        task_id: sorted((view(event) for event in seen[task_id]), key=lambda event: str(event["type"]))
        for task_id in ("ok", "bad", "own")
    }

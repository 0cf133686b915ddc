"""A broadcast queue that remote control adds to a running node, on a broker that keeps broadcasts for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.exceptions import TimeoutError as ResultTimeoutError
from kombu import Exchange, Queue

from support.control_script import ask
from support.kinds import KINDS, OWN, STOCK
from support.sqlite_stage import SqliteStage
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

NAME = "everybody"


@pytest.mark.parametrize("worker", [STOCK, KINDS["pyworker-fast"], OWN], ids=lambda worker: str(worker.name))
def test_broadcasts_are_run_until_the_queue_is_cancelled(worker: Kind) -> None:
    check(worker, Stage)


def test_broadcasts_are_run_on_sqlite() -> None:
    check(KINDS["pyworker-fast"], SqliteStage)


def check(worker: Kind, place: type[Stage]) -> None:
    environment = {"TEST_LIBRARY": "pyworker" if worker is OWN else "celery"}
    queue = Queue(NAME, Exchange(NAME, type="fanout"), routing_key=NAME)
    with place(worker, "either", options=("-c", "1"), environment=environment) as stage:
        added = ask(stage, "add_consumer", queue=NAME, exchange=NAME, exchange_type="fanout", routing_key=NAME)
        assert added == {"ok": f"add consumer {NAME}"}

        def answered() -> bool:
            # Whoever does not listen yet misses it for good.
            try:
                return bool(stage.tasks.add.apply_async((1, 2), queue=queue).get(timeout=3) == 3)
            except ResultTimeoutError:
                return False

        eventually(answered, deadline_s=60)
        consumed = {each["name"]: each["exchange"]["type"] for each in ask(stage, "active_queues")}
        assert consumed == {"celery": "direct", NAME: "fanout"}
        assert ask(stage, "cancel_consumer", queue=NAME) == {"ok": f"no longer consuming from {NAME}"}
        eventually(lambda: [each["name"] for each in ask(stage, "active_queues")] == ["celery"], deadline_s=60)
        missed = stage.tasks.add.apply_async((1, 2), queue=queue)
        assert stage.tasks.add.delay(2, 2).get(timeout=60) == 4
        assert missed.state == "PENDING"

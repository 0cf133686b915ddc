"""The facades that application code sees: boot steps, timer, banner, receipts."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from celery import bootsteps

from pyworker.compat.celery.banner import sanitize, startup_banner
from pyworker.compat.celery.receipts import ReceiptLog
from pyworker.worker.config import Lane
from pyworker.worker.protocol import TaskSpec
from support.notices import Shown, job

pytestmark = pytest.mark.filterwarnings("ignore::celery.platforms.SecurityWarning")
NAME = "unit.work"


def test_step_that_requires_celerys_steps_gets_ours(app: Any, make_node: Any) -> None:
    seen: list[Any] = []

    class Step(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = (
            "celery.worker.components:Hub",
            "celery.worker.components:Pool",
            "celery.worker.components:Timer",
            "celery.worker.autoscale:WorkerComponent",
        )

        def start(self, worker: Any) -> None:
            seen.append((worker.hub, worker.pool.num_processes, worker.autoscaler, worker.timer is not None))

    app.steps["worker"].add(Step)
    make_node()
    assert seen == [(None, 2, None, True)]


def test_consumer_step_may_require_every_step_of_celery(app: Any, make_node: Any) -> None:
    seen: list[Any] = []

    class Step(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = tuple(
            f"celery.worker.consumer.{name}"
            for name in (
                "connection:Connection",
                "mingle:Mingle",
                "events:Events",
                "gossip:Gossip",
                "heart:Heart",
                "control:Control",
                "tasks:Tasks",
                "agent:Agent",
            )
        )

        def start(self, consumer: Any) -> None:
            seen.append((consumer.event_dispatcher.enabled, consumer.gossip.enabled, consumer.heart, consumer.hub))

    app.steps["consumer"].add(Step)
    make_node()
    assert seen == [(False, False, None, None)]


def test_stock_worker_of_the_same_steps_is_untouched(app: Any, make_node: Any) -> None:
    from celery.worker.components import Pool

    class Step(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = (Pool,)

    app.steps["worker"].add(Step)
    make_node()
    assert list(Step.requires) == [Pool]


def test_banner_names_the_engine_and_hides_passwords(make_node: Any) -> None:
    text = startup_banner(make_node().worker)
    assert ".> engine:      pyworker " in text
    assert ".> concurrency: 2 (prefork)" in text
    assert ".> celery           exchange=celery(direct) key=celery" in text
    assert sanitize("redis://user:secret@host/0") == "redis://user:**@host/0"
    assert sanitize("redis://:**@host/0") == "redis://:**@host/0"


@pytest.mark.parametrize(("eta", "shown"), [(None, "None"), ("2031-01-02T03:04:05+00:00", "2031"), (5, "5")])
def test_receipt_has_celerys_text_and_data(caplog: Any, eta: Any, shown: str) -> None:
    caplog.set_level(logging.INFO)
    log = ReceiptLog([TaskSpec(name=NAME, lane=Lane.FAST)])
    notice = job("", NAME, "t1", task_index=0, headers={"shadow": "shown", "argsrepr": "(1,)", "eta": eta})
    log.log(notice)  # type: ignore[arg-type]
    [record] = caplog.records
    assert (record.name, record.getMessage()) == ("celery.worker.strategy", "Task shown[t1] received")
    assert (record.data["args"], record.data["kwargs"]) == ("(1,)", "{}")
    assert shown in str(record.data["eta"])


def test_parent_lane_logs_its_own_receipts(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    log = ReceiptLog([TaskSpec(name=NAME, lane=Lane.PARENT)])
    log.log(Shown(task_index=0, task_name=NAME, headers=json.dumps({}).encode()))  # type: ignore[arg-type]
    assert not caplog.records

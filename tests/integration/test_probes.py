"""Probes and metrics: answered natively, also while every child is busy."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from support.redis_server import RedisServer
from support.stage import Stage
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")


@pytest.fixture(scope="module")
def stage(kind: Kind) -> Iterator[Stage]:
    """A worker whose probes listen at a port that the system chose."""
    with Stage(kind, options=("-c", "1", "--probes", "0")) as opened:
        yield opened


def address(stage: Stage) -> str:
    return stage.worker.wait_for_line(r"probes listen at (http://\S+)").group(1)


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def figure(stage: Stage, name: str) -> float | None:
    text = fetch(address(stage) + "/metrics")[1]
    found = re.search(rf"^pyworker_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else None


def test_node_is_alive_and_ready(stage: Stage) -> None:
    assert fetch(address(stage) + "/livez") == (200, "ok\n")
    assert eventually(lambda: fetch(address(stage) + "/readyz") == (200, "ok\n"))
    assert fetch(address(stage) + "/nothing")[0] == 404


def test_tasks_are_counted_by_name_and_outcome(stage: Stage) -> None:
    for number in range(3):
        stage.tasks.add.delay(number, 1).get(timeout=20)
    stage.tasks.raising.delay().get(propagate=False, timeout=20)
    label = 'task="tasks.add"'
    assert eventually(lambda: figure(stage, f'tasks_total{{{label},outcome="succeeded"}}') == 3)
    assert eventually(lambda: figure(stage, 'tasks_total{task="tasks.raising",outcome="failed"}') == 1)
    assert figure(stage, f"task_run_seconds_count{{{label}}}") == 3
    assert figure(stage, f"task_wait_seconds_count{{{label}}}") == 3
    assert figure(stage, f'task_run_seconds_bucket{{{label},le="+Inf"}}') == 3
    assert eventually(lambda: figure(stage, "messages_received_total") == 4)
    assert figure(stage, "pool_children") == 1
    assert "tasks.multiply" not in fetch(address(stage) + "/metrics")[1]


def test_figures_are_whole_prometheus_text(stage: Stage) -> None:
    lines = fetch(address(stage) + "/metrics")[1].splitlines()
    sample = re.compile(r'^pyworker_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+$')
    assert [line for line in lines if not line.startswith("# ") and not sample.match(line)] == []
    helped = {line.split()[2] for line in lines if line.startswith("# HELP")}
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert helped == set(typed)
    assert len(typed) == len(set(typed))


def test_answers_come_while_all_children_are_busy_and_queues_are_measured(stage: Stage) -> None:
    results = [stage.tasks.gated.delay("probes") for _ in range(20)]
    stage.wait_for_journal("probes", 1)
    assert eventually(lambda: figure(stage, "pool_children_busy") == 1)
    assert fetch(address(stage) + "/livez")[0] == 200
    assert fetch(address(stage) + "/readyz")[0] == 200
    assert eventually(lambda: (figure(stage, 'queue_depth{queue="celery"}') or 0) > 0, deadline_s=40)
    assert eventually(lambda: (figure(stage, 'queue_oldest_age_seconds{queue="celery"}') or 0) > 0, deadline_s=40)
    stage.open_gate("probes", 20)
    for result in results:
        result.get(timeout=30)
    assert eventually(lambda: figure(stage, 'queue_depth{queue="celery"}') == 0, deadline_s=40)


def test_node_without_its_broker_is_alive_and_not_ready(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1", "--probes", "127.0.0.1:0"), has_notebook=True) as own:
        assert eventually(lambda: fetch(address(own) + "/readyz")[0] == 200)
        own.server.stop(kill=True)
        assert eventually(lambda: fetch(address(own) + "/readyz") == (503, "not connected to the broker\n"))
        assert fetch(address(own) + "/livez")[0] == 200
        own.server.start()
        assert eventually(lambda: fetch(address(own) + "/readyz")[0] == 200, deadline_s=60)
        # A stopping node finishes its task, and takes nothing new.
        own.tasks.gated.delay("stopping")
        own.wait_for_journal("stopping", 1, deadline_s=40)
        own.worker.send(signal.SIGTERM)
        assert eventually(lambda: fetch(address(own) + "/readyz") == (503, "stopping\n"))
        own.open_gate("stopping")
        assert own.worker.wait() == 0


@pytest.mark.parametrize(
    ("given", "text"), [("nowhere", "is no port"), ("256.0.0.1:1", "is no address"), ("taken", "listening at")]
)
def test_address_that_cannot_be_used_is_named(kind: Kind, given: str, text: str) -> None:
    with RedisServer() as server:
        port = server.port if given == "taken" else given
        worker = WorkerProcess(kind, "tasks", broker=server.url, options=("-c", "1", "--probes", str(port)))
        try:
            worker.start(is_ready=False)
            assert worker.wait() in (1, 2)
            assert text in worker.log
        finally:
            worker.close()

"""The stock application on RabbitMQ with results in Redis: messages, times, priorities, remote control, fleets, drops.

A representative part of what the other modules show on Redis; everything on one node (it takes seconds to start).
"""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from celery import chord, group

from pyworker import Celery as OwnCelery
from pyworker import group as own_group
from pyworker.exceptions import OperationalError
from support.kinds import STOCK, Kind
from support.processes import open_descriptors, thread_count
from support.rabbitmq_server import RabbitmqHost
from support.rabbitmq_stage import RabbitmqStage
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]


@pytest.fixture(scope="module")
def stage(kind: Kind) -> Iterator[RabbitmqStage]:
    """The formats app with one child."""
    with RabbitmqStage(kind, "formats", options=("-c", "1")) as opened:
        yield opened


@pytest.fixture
def fleet(kind: Kind) -> Iterator[RabbitmqStage]:
    """Servers and the counting app; the tests start the workers they need."""
    opened = RabbitmqStage(kind, "impatient", options=("-c", "2")).open(has_worker=False)
    yield opened
    opened.close()


def executions(stage: RabbitmqStage, name: str) -> dict[str, int]:
    return {member: int(count) for member, count in stage.notes.hgetall(f"executions:{name}").items()}


def publish(
    stage: RabbitmqStage, name: str, count: int, *, task: str = "count_late", more: tuple[Any, ...] = ()
) -> None:
    """Publish many counting tasks over one connection, confirmed."""
    with stage.app.connection_for_write(transport_options={"confirm_publish": True}) as connection:
        producer = stage.app.amqp.Producer(connection)
        for number in range(count):
            getattr(stage.tasks, task).apply_async((name, str(number), *more), producer=producer, ignore_result=True)


def wait_for_all(stage: RabbitmqStage, name: str, count: int, *, deadline_s: float = 90.0) -> dict[str, int]:
    eventually(
        lambda: int(stage.notes.hlen(f"executions:{name}")) >= count,
        deadline_s=deadline_s,
        what=f"{count} different executions of {name}",
    )
    return executions(stage, name)


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2", "gzip", "lzma", "zstd", "brotli"])
def test_serializer_and_compression_arrive(stage: RabbitmqStage, serializer: str, compression: str | None) -> None:
    arguments = (1, 2.5, "text" * 100, [1, {"a": None}], True)
    result = stage.tasks.echo.apply_async(arguments, {"key": "väl"}, serializer=serializer, compression=compression)
    assert result.get(timeout=20) == [list(arguments), {"key": "väl"}]


def test_request_shows_the_message(stage: RabbitmqStage) -> None:
    result = stage.tasks.request_of.apply_async(
        headers={"custom": {"trace": ["a", 1, 2**40, 0.5, None]}}, shadow="another name", time_limit=50, priority=3
    )
    found = result.get(timeout=20)
    assert found["id"] == found["correlation_id"] == found["root_id"] == result.id
    assert found["custom"] == {"trace": ["a", 1, 2**40, 0.5, None]}
    assert found["shadow"] == "another name"
    assert found["timelimit"] == [50, None]
    assert found["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 3, "redelivered": False}
    assert found["hostname"] == stage.worker.node_name


def test_large_body_and_result_pass(stage: RabbitmqStage) -> None:
    # Newer servers take up to 16 MiB by default; a letter like this is six characters of JSON.
    assert stage.tasks.length.delay("ä" * 2_500_000).get(timeout=60) == 2_500_000


def test_near_countdown_is_waited_for(stage: RabbitmqStage) -> None:
    later = stage.tasks.echo.apply_async(("later",), countdown=1.5)
    assert stage.tasks.echo.delay("now").get(timeout=20) == [["now"], {}]
    assert not later.ready()
    assert later.get(timeout=20) == [["later"], {}]


def test_far_countdown_is_parked_at_the_server(stage: RabbitmqStage) -> None:
    """It neither fills the worker nor its prefetch, and comes back from the level its delay names."""
    for _ in range(20):
        stage.tasks.echo.apply_async(("far",), countdown=100)
    parked = sorted(f"celery_delayed_{level}" for level in range(5, 7))
    eventually(
        lambda: sum(stage.host.waiting(name) for name in parked) == 20, deadline_s=60, what="twenty messages parked"
    )
    eventually(stage.host.is_drained, what="nothing is held by the worker")
    assert stage.tasks.echo.delay("now").get(timeout=20) == [["now"], {}]


def test_remote_control_answers(stage: RabbitmqStage) -> None:
    inspect = stage.app.control.inspect(timeout=10, limit=1)
    assert inspect.ping() == {stage.worker.node_name: {"ok": "pong"}}
    assert [queue["name"] for queue in inspect.active_queues()[stage.worker.node_name]] == ["celery"]
    assert inspect.stats()[stage.worker.node_name]["broker"]["transport"] == "amqp"


def test_workflows_run(kind: Kind) -> None:
    with RabbitmqStage(kind, "tasks", options=("-c", "2")) as stage:
        tasks = stage.tasks
        assert group(tasks.add.s(n, n) for n in range(20))().get(timeout=30) == [2 * n for n in range(20)]
        assert chord((tasks.add.s(n, 1) for n in range(10)), tasks.xsum.s())().get(timeout=30) == 55
        assert (tasks.add.s(1, 2) | tasks.mul.s(5))().get(timeout=30) == 15
        assert tasks.flaky.delay(3).get(timeout=30) == 3


def test_stock_and_native_workers_share_a_queue(fleet: RabbitmqStage) -> None:
    ours = fleet.new_worker().start()
    stock = fleet.new_worker(STOCK, options=("-c", "1", "-n", "stock@%h")).start()
    publish(fleet, "shared", 600)
    done = wait_for_all(fleet, "shared", 600)
    fleet.wait_until_drained()
    assert set(done.values()) == {1}
    shares = fleet.notes.hgetall("shares:shared")
    assert len(shares) >= 2, shares
    assert (ours.is_running, stock.is_running) == (True, True)


def test_stock_worker_finishes_what_a_killed_worker_held(fleet: RabbitmqStage) -> None:
    ours = fleet.new_worker(options=("-c", "2", "-n", "ours@%h")).start()
    results = [fleet.tasks.gated_late.delay("killed", number) for number in range(20)]
    eventually(lambda: fleet.notes.llen("journal:killed") >= 2, what="two run")
    ours.kill_all()
    fleet.new_worker(STOCK, options=("-c", "2", "-n", "stock@%h")).start()
    fleet.open_gate("killed", 60)
    assert [result.get(timeout=60) for result in results] == list(range(20))
    started = [entry["label"] for entry in fleet.journal("killed")]
    # Two ran in the killed worker; no other task may run twice.
    assert set(started) == set(range(20))
    assert len(started) - 20 <= 2


def test_warm_stop_hands_back_what_has_not_started(fleet: RabbitmqStage) -> None:
    ours = fleet.new_worker(options=("-c", "1")).start()
    held = fleet.tasks.gated_late.delay("gate", 0)
    fleet.wait_for_journal("gate", 1)
    publish(fleet, "later", 10)
    ours.send(signal.SIGTERM)
    # While one task still runs the others wait for anybody.
    eventually(lambda: fleet.host.waiting() == 10, what="ten messages are back in the queue")
    fleet.open_gate("gate")
    assert held.get(timeout=30) == 0
    assert ours.wait() == 0
    assert executions(fleet, "later") == {}


def test_work_goes_on_after_every_drop(
    fleet: RabbitmqStage, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    """The server closes the worker's connections again and again; late acknowledged tasks run once all the same."""
    drops, total = (200, 20_000) if request.config.getoption("--chaos-long") else (4, 400)
    worker = fleet.new_worker().start()
    publish(fleet, "dropped", total, task="count_late_busy", more=(0.01,))
    before = open_descriptors(worker.pid), thread_count(worker.pid)
    cut = 0
    for _ in range(drops):
        reached = len(executions(fleet, "dropped")) + randomness.randrange(10, 40)
        eventually(lambda: len(executions(fleet, "dropped")) >= min(reached, total), deadline_s=60)  # noqa: B023
        # The server lists a connection a moment after it was opened.
        cut += eventually(lambda: fleet.host.cut(name_starts="pyworker "), what="a connection to cut")
    done = wait_for_all(fleet, "dropped", total)
    fleet.wait_until_drained(deadline_s=60)
    print(f"{cut} connections cut, {sum(done.values()) - total} of {total} tasks ran again")
    assert cut >= drops
    # Nobody else was there to take the messages: each came back here and was known.
    assert set(executions(fleet, "dropped").values()) == {1}
    eventually(lambda: open_descriptors(worker.pid) <= before[0] + 2, what="no descriptor was left behind")
    assert thread_count(worker.pid) <= before[1] + 2


def test_long_task_survives_a_drop(fleet: RabbitmqStage) -> None:
    """A late acknowledged task goes on while its message is handed out again; it is adopted, not repeated."""
    fleet.new_worker().start()
    results = [fleet.tasks.gated_late.delay("survivors", number) for number in range(2)]
    fleet.wait_for_journal("survivors", 2)
    eventually(lambda: fleet.host.cut(name_starts="pyworker ") == 1, what="the worker's connection is cut")
    publish(fleet, "others", 1)
    fleet.worker.wait_for_line("Connected to amqp", after=fleet.worker.mark() - 5)
    fleet.open_gate("survivors", 2)
    assert [result.get(timeout=30) for result in results] == [0, 1]
    wait_for_all(fleet, "others", 1)
    fleet.wait_until_drained()
    assert len(fleet.journal("survivors")) == 2


def test_own_application_publishes_confirmed_and_runs(kind: Kind) -> None:
    with RedisServer() as results, RabbitmqHost() as host:
        app = OwnCelery("own_rabbitmq", broker=host.url, backend=results.url)
        app.conf.task_publish_retry = False

        @app.task(name="own_rabbitmq.add")
        def add(x: int, y: int) -> int:
            return x + y

        single = add.delay(1, 2)
        many = [add.s(number, 1) for number in range(500)]
        batch = own_group(many).apply_async()
        assert host.queue("celery")["arguments"] == {}
        worker = WorkerProcess(kind, "own_rabbitmq", broker=host.url, backend=results.url)
        try:
            worker.start()
            assert single.get(timeout=20) == 3
            assert batch.get(timeout=40) == list(range(1, 501))
            assert add.apply_async((3, 4), countdown=1).get(timeout=20) == 7
            assert worker.stop() == 0
        finally:
            worker.close()
        # The queue is gone and nobody noticed: a publish into nothing is an error, never silence.
        host.node.manage("DELETE", f"queues/{host.name}/celery")
        with pytest.raises(OperationalError, match=r"\(312\) NO_ROUTE: no queue takes messages"):
            add.delay(1, 2)
        app.close()

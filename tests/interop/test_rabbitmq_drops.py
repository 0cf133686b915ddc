"""A worker on RabbitMQ through everything that ends a connection, a channel or a consumer, under load.

Late acknowledged tasks; nobody else takes the messages, so each runs once.
How soon work goes on is printed: ``pytest -s --chaos-long``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import Celery
from pyworker.exceptions import OperationalError
from support.processes import open_descriptors, thread_count
from support.rabbitmq_private import PrivateHost, PrivateRabbitmq
from support.rabbitmq_stage import RabbitmqStage
from support.tcp_gate import TcpGate
from support.waiting import eventually

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from support.kinds import Kind
    from support.worker import WorkerProcess

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow, pytest.mark.xdist_group("rabbitmq-drops")]

DEADLINE_S = 120.0
#: Tasks published in one round, and how long each takes.
ROUND, TASK_S = 40, 0.01


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbitmq]:
    with PrivateRabbitmq() as running:
        yield running


@pytest.fixture
def gate(node: PrivateRabbitmq) -> Iterator[TcpGate]:
    with TcpGate(node.port) as opened:
        yield opened


@pytest.fixture
def stage(kind: Kind, node: PrivateRabbitmq) -> Iterator[RabbitmqStage]:
    opened = RabbitmqStage(kind, "impatient", host=PrivateHost(node), options=("-c", "2")).open(has_worker=False)
    yield opened
    opened.close()


def start_behind(gate: TcpGate, stage: RabbitmqStage) -> WorkerProcess:
    worker = stage.new_worker(broker=stage.host.url.replace(f":{stage.host.node.port}/", f":{gate.port}/"))
    return worker.start()


class Load:
    """Publishes late acknowledged tasks and knows which ran."""

    def __init__(self, stage: RabbitmqStage, name: str) -> None:
        self._stage = stage
        self.name = name
        self.published = 0

    def publish(self, count: int = ROUND) -> None:
        """Publish over a connection of its own, confirmed."""
        with self._stage.app.connection_for_write(transport_options={"confirm_publish": True}) as connection:
            producer = self._stage.app.amqp.Producer(connection)
            for _ in range(count):
                self._stage.tasks.count_late_busy.apply_async(
                    (self.name, str(self.published), TASK_S), producer=producer, ignore_result=True
                )
                self.published += 1

    def executed(self) -> int:
        """Return how many different tasks ran."""
        return int(self._stage.notes.hlen(f"executions:{self.name}"))

    def wait_until(self, count: int) -> None:
        """Return when so many ran."""
        eventually(lambda: self.executed() >= count, deadline_s=DEADLINE_S, what=f"{count} tasks of {self.name} ran")

    def repeated(self) -> int:
        """Wait until everything ran and is acknowledged; returns how many runs were repetitions."""
        self.wait_until(self.published)
        self._stage.wait_until_drained(deadline_s=DEADLINE_S)
        runs = [int(count) for count in self._stage.notes.hvals(f"executions:{self.name}")]
        assert len(runs) == self.published
        return sum(runs) - len(runs)


def goes_on_after(load: Load) -> float:
    """Return the seconds until what is published from now on runs: what was reserved before runs in any case."""
    begun = time.monotonic()
    load.publish(1)
    load.wait_until(load.published)
    return time.monotonic() - begun


def rounds_of(request: pytest.FixtureRequest, long: int, short: int) -> int:
    """How often something is broken; ``--chaos-share`` shortens the long form."""
    if not request.config.getoption("--chaos-long"):
        return short
    return max(1, int(long * float(request.config.getoption("--chaos-share"))))


def reset(gate: TcpGate, node: PrivateRabbitmq) -> None:
    gate.reset()


def half_open(gate: TcpGate, node: PrivateRabbitmq) -> None:
    gate.freeze()


def server_restart(gate: TcpGate, node: PrivateRabbitmq) -> None:
    node.restart_server()


def node_restart(gate: TcpGate, node: PrivateRabbitmq) -> None:
    node.stop_node()
    node.start_node()


@pytest.mark.parametrize(
    ("drop", "long_rounds", "short_rounds"),
    # A whole node takes seconds of processor time to start.
    [(reset, 200, 3), (half_open, 200, 1), (server_restart, 200, 2), (node_restart, 50, 1)],
)
def test_work_goes_on_after(
    drop: Callable[[TcpGate, PrivateRabbitmq], None],
    long_rounds: int,
    short_rounds: int,
    stage: RabbitmqStage,
    gate: TcpGate,
    node: PrivateRabbitmq,
    randomness: random.Random,
    request: pytest.FixtureRequest,
) -> None:
    rounds = rounds_of(request, long_rounds, short_rounds)
    worker = start_behind(gate, stage)
    load = Load(stage, drop.__name__)
    load.publish()
    load.wait_until(1)
    before = open_descriptors(worker.pid), thread_count(worker.pid)
    resumed = []
    for number in range(1, rounds + 1):
        load.publish()
        load.wait_until(load.published - randomness.randrange(5, ROUND - 5))
        drop(gate, node)
        resumed.append(goes_on_after(load))
        if number % 10 == 0:
            print(f"{drop.__name__}: {number} of {rounds}, {load.published} tasks, {max(resumed):.2f} s", flush=True)
    repeated = load.repeated()
    print(
        f"{drop.__name__}: {rounds} times, {load.published} tasks, {repeated} ran again; "
        f"went on after {sorted(resumed)[len(resumed) // 2]:.2f} s (median), at most {max(resumed):.2f} s"
    )
    assert repeated == 0
    # Remote control has a connection of its own, which must notice as well.
    with stage.app.connection_for_write() as connection:
        eventually(
            lambda: stage.app.control.ping(timeout=10, limit=1, connection=connection),
            deadline_s=DEADLINE_S,
            what="remote control answers",
        )
    eventually(lambda: open_descriptors(worker.pid) <= before[0] + 2, what="no descriptor was left behind")
    eventually(lambda: thread_count(worker.pid) <= before[1] + 2, what="no thread was left behind")
    assert worker.stop() == 0


def test_a_node_short_of_memory_blocks_publishers_and_not_the_worker(
    stage: RabbitmqStage, gate: TcpGate, node: PrivateRabbitmq, request: pytest.FixtureRequest
) -> None:
    rounds = rounds_of(request, 200, 2)
    worker = start_behind(gate, stage)
    load = Load(stage, "blocked")
    load.publish()
    load.wait_until(1)
    before = open_descriptors(worker.pid), thread_count(worker.pid)
    resumed = []
    for _ in range(rounds):
        load.publish()
        waiting = load.published
        node.block()
        publisher = threading.Thread(target=load.publish, args=(5,))
        publisher.start()
        # Those of before the alarm run, those behind it come when it is over.
        load.wait_until(waiting)
        node.unblock()
        begun = time.monotonic()
        load.wait_until(waiting + 1)
        resumed.append(time.monotonic() - begun)
        publisher.join(DEADLINE_S)
        assert not publisher.is_alive()
        load.wait_until(load.published)
    repeated = load.repeated()
    print(
        f"blocked: {rounds} times, {load.published} tasks, {repeated} ran again; "
        f"went on after {sorted(resumed)[len(resumed) // 2]:.2f} s (median), at most {max(resumed):.2f} s"
    )
    assert repeated == 0
    eventually(lambda: open_descriptors(worker.pid) <= before[0] + 2, what="no descriptor was left behind")
    assert thread_count(worker.pid) <= before[1] + 2
    assert worker.stop() == 0


def test_a_blocked_publish_of_ours_raises_and_is_not_lost_in_silence(node: PrivateRabbitmq) -> None:
    app = Celery("blocked", broker=node.url(), set_as_current=False)
    app.conf.update(
        broker_transport_options={"confirm_timeout": 0.5}, task_publish_retry=False, task_default_queue="blocked"
    )

    @app.task(name="blocked.task")
    def task() -> None:
        """Only sent."""

    task.delay()
    node.block()
    try:
        with pytest.raises(OperationalError, match="not confirmed"):
            task.delay()
    finally:
        node.unblock()
    task.delay()
    node.delete_queue("blocked")
    app.close()


def test_a_deleted_queue_is_declared_and_consumed_again(stage: RabbitmqStage) -> None:
    worker = stage.new_worker().start()
    load = Load(stage, "deleted")
    for expected in (5, 10):
        # What runs shows that the queue has its consumer, and only then is the next deletion told.
        load.publish(5)
        load.wait_until(expected)
        mark = worker.mark()
        stage.host.node.delete_queue()
        worker.wait_for_line('cancelled the consumer of queue "celery"', after=mark)
        eventually(stage.host.is_drained, what="the queue is there again")
    load.publish(5)
    assert load.repeated() == 0
    assert worker.stop() == 0


def test_a_task_longer_than_the_consumer_timeout_runs_once(stage: RabbitmqStage, node: PrivateRabbitmq) -> None:
    """The server closes the channel again and again; it is opened anew, and what runs is known when it comes again.

    So is what waits for its turn or its time: everything runs once.
    """
    settings = {"consumer_timeout": 1500, "channel_tick_interval": 200}
    for name, value in settings.items():
        node.evaluate(f"application:set_env(rabbit, {name}, {value})")
    try:
        worker = stage.new_worker().start()
        labels = list(range(7))
        results = [stage.tasks.gated_late.delay("long", label) for label in labels[:-1]]
        results.append(stage.tasks.gated_late.apply_async(("long", labels[-1]), countdown=5))
        stage.wait_for_journal("long", 2)
        mark = 0
        for _ in range(3):
            worker.wait_for_line(
                "closed the consuming channel: .*PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out",
                deadline_s=DEADLINE_S, after=mark,
            )  # fmt: skip
            mark = worker.mark()
        assert len(stage.journal("long")) == 2
        stage.open_gate("long", len(labels))
        assert [result.get(timeout=60) for result in results] == labels
        load = Load(stage, "after-the-timeout")
        load.publish(5)
        assert load.repeated() == 0
        assert sorted(entry["label"] for entry in stage.journal("long")) == labels
        assert worker.stop() == 0
    finally:
        node.evaluate("application:set_env(rabbit, consumer_timeout, 1800000)")
        node.evaluate("application:set_env(rabbit, channel_tick_interval, 60000)")


def test_remote_control_adds_and_cancels_queues_of_every_kind(stage: RabbitmqStage, gate: TcpGate) -> None:
    """What was added survives a lost connection and the deletion of its queue."""
    start_behind(gate, stage)
    control: Any = stage.app.control
    answer = control.add_consumer("later", exchange="fan", exchange_type="fanout", reply=True, timeout=20, limit=1)
    assert [list(one.values()) for one in answer] == [[{"ok": "add consumer later"}]]

    def send(member: str) -> None:
        stage.tasks.count_late.apply_async(("added", member), exchange="fan", routing_key="any", ignore_result=True)

    def wait_for(*members: str) -> None:
        eventually(lambda: set(stage.notes.hkeys("executions:added")) == set(members), deadline_s=DEADLINE_S)

    send("at once")
    wait_for("at once")
    gate.reset()
    send("after a drop")
    wait_for("at once", "after a drop")
    stage.host.node.delete_queue("later")
    # What is published between the declaration and the binding reaches no queue.
    eventually(lambda: stage.host.is_bound("later", "fan"), what="the queue is declared and bound again")
    send("after its deletion")
    wait_for("at once", "after a drop", "after its deletion")
    # A command that comes while the mailbox connects anew reaches nobody.
    answer = eventually(
        lambda: control.cancel_consumer("later", reply=True, timeout=2, limit=1),
        deadline_s=DEADLINE_S,
        what="an answer",
    )
    assert [list(one.values()) for one in answer] == [[{"ok": "no longer consuming from later"}]]
    send("after it was cancelled")
    eventually(lambda: stage.host.waiting("later") == 1, what="the message waits")
    stage.host.node.delete_queue("later")

"""What waits in the delay levels of RabbitMQ: whoever put it there, any worker runs it when it is due."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from support.connected import STOCK, WORKER
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq-delays")]

QUEUE = "declared.default"
#: Far enough to be parked on receipt (30 s), and a message of this time waits in level 5 (32 s) first.
FAR_S = 40.0
#: A message that its client delays for so long waits in level 4 (16 s) first.
BY_CLIENT_S = 25.0
TASKS = ("declaring.answer", "declaring.answer_at_last")
DEADLINE_S = 120.0


@dataclass
class Fleet:
    """Workers of one application on a virtual host of its own, and clients that know only where its queue is."""

    host: RabbitmqHost
    results: RedisServer
    #: ``quorum``: the queue is one and its exchange is a topic, so stock Celery delays in the server. Else direct.
    queue_type: str
    ends: ExitStack
    due: dict[str, datetime] = field(default_factory=dict)

    def start(self, kind: Kind, library: str = "celery") -> WorkerProcess:
        worker = WorkerProcess(
            kind, "declaring", broker=self.host.url, backend=self.results.url,
            options=("-c", "1", "-Q", QUEUE, "-n", f"{kind.name}@%h"),
            environment={"TEST_QUEUE_TYPE": self.queue_type, "TEST_LIBRARY": library},
        )  # fmt: skip
        self.ends.callback(worker.close)
        return worker.start()

    def client(self, **settings: Any) -> Celery:
        app = Celery("client", broker=self.host.url, backend=self.results.url, set_as_current=False)
        app.conf.update(settings)
        self.ends.callback(app.close)
        self.ends.callback(lambda: app.backend.result_consumer.stop())
        return app

    def send(self, client: Celery, task: str, delay_s: float, **options: Any) -> Any:
        """Send a task; when it is due is remembered."""
        eta = datetime.now(timezone.utc) + timedelta(seconds=delay_s)
        result = client.send_task(task, (task,), eta=eta, **options)
        self.due[result.id] = eta
        return result

    def send_to_the_queue(self, client: Celery) -> list[Any]:
        """Send tasks for a far time straight to the queue, as a client does that knows nothing of quorum queues."""
        return [self.send(client, task, FAR_S, exchange=QUEUE, routing_key=QUEUE) for task in TASKS]

    def assert_run_by(self, kind: Kind, result: Any) -> None:
        """Wait until a task ran, when it was due and where it should."""
        value = result.get(timeout=DEADLINE_S)
        assert value in TASKS
        assert str(result.worker).startswith(f"{kind.name}@"), result.worker
        assert result.date_done.replace(tzinfo=timezone.utc) >= self.due[result.id]
        assert (result.retries or 0) == (1 if value == "declaring.answer_at_last" else 0)


def test_what_one_worker_delays_in_the_server_another_one_runs() -> None:
    """Parked by ours and run by a stock worker, on queues of both types; delayed by a stock client and run by ours."""
    with ExitStack() as ends:
        results = ends.enter_context(RedisServer())
        classic, quorum = (
            Fleet(ends.enter_context(RabbitmqHost()), results, queue_type, ends) for queue_type in ("classic", "quorum")
        )
        # A stock worker declares the levels, and is gone when the client uses them.
        assert quorum.start(STOCK).stop() == 0
        knowing = quorum.client(
            task_default_queue=QUEUE, task_default_queue_type="quorum", task_default_exchange_type="topic"
        )
        by_client = [quorum.send(knowing, task, BY_CLIENT_S) for task in TASKS]
        eventually(
            lambda: quorum.host.waiting("celery_delayed_4") == len(TASKS),
            deadline_s=DEADLINE_S,
            what="the client waits",
        )

        ours = [classic.start(WORKER, "pyworker"), quorum.start(WORKER)]
        by_worker = [fleet.send_to_the_queue(fleet.client()) for fleet in (classic, quorum)]
        for fleet in (classic, quorum):
            eventually(
                lambda: fleet.host.waiting("celery_delayed_5") == len(TASKS),  # noqa: B023
                deadline_s=DEADLINE_S,
                what=f"the {fleet.queue_type} queue's messages are parked",
            )
        for result in by_client:
            quorum.assert_run_by(WORKER, result)
        assert [worker.stop() for worker in ours] == [0, 0]

        stock = [fleet.start(STOCK) for fleet in (classic, quorum)]
        for fleet, parked in zip((classic, quorum), by_worker, strict=True):
            for result in parked:
                fleet.assert_run_by(STOCK, result)
            eventually(lambda: fleet.host.is_drained(QUEUE), deadline_s=DEADLINE_S, what="nothing is left")  # noqa: B023
        assert [worker.stop() for worker in stock] == [0, 0]

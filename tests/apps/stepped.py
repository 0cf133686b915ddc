"""An app with boot steps, a message consumer and a control command of its own."""

from __future__ import annotations

from typing import Any

import journal
import lanes
from celery import Celery, bootsteps, signals
from celery.worker.control import inspect_command
from kombu import Consumer, Exchange, Queue

app = Celery("stepped", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True)
lanes.enter_lane()

OWN_QUEUE = Queue("own-messages", Exchange("own-messages"), "own-messages")


class Ticker(bootsteps.StartStopStep):
    """Uses the worker's timer, as onyx and celery-healthcheck do."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **options: Any) -> None:
        journal.record("steps", step="ticker", event="init", hostname=worker.hostname)
        self._entry: Any = None
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        journal.record("steps", step="ticker", event="start", concurrency=worker.concurrency)
        self._entry = worker.timer.call_repeatedly(0.05, lambda: journal.record("ticks", app=worker.app.main))

    def stop(self, worker: Any) -> None:
        journal.record("steps", step="ticker", event="stop")
        self._entry.cancel()


class Watcher(bootsteps.StartStopStep):
    """Looks at the consumer, as stemtrace and nautobot do."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        journal.record(
            "steps",
            step="watcher",
            event="start",
            queues=[queue.name for queue in consumer.task_consumer.queues],
            strategies="stepped.add" in consumer.strategies,
            processes=consumer.pool.num_processes,
            is_controlled=consumer.controller.app is consumer.app,
        )

    def stop(self, consumer: Any) -> None:
        journal.record("steps", step="watcher", event="stop")

    def shutdown(self, consumer: Any) -> None:
        journal.record("steps", step="watcher", event="shutdown")


class OwnMessages(bootsteps.ConsumerStep):
    """Consumes messages that are no tasks, as Celery's guide shows."""

    def get_consumers(self, channel: Any) -> list[Consumer]:
        return [Consumer(channel, queues=[OWN_QUEUE], callbacks=[self.handle_message], accept=["json"])]

    def handle_message(self, body: Any, message: Any) -> None:
        journal.record("own-messages", body=body)
        message.ack()


app.steps["worker"].add(Ticker)
app.steps["consumer"].add(Watcher)
app.steps["consumer"].add(OwnMessages)


@inspect_command(args=[("number", int)])
def doubled(state: Any, number: int = 1) -> dict[str, Any]:
    """Answer with what the command's state gives access to."""
    return {"doubled": number * 2, "hostname": state.hostname, "processes": state.consumer.pool.num_processes}


@signals.worker_ready.connect
def revoke_when_ready(sender: Any = None, **_: Any) -> None:
    """Revoke as nautobot does: into the set, without any command."""
    sender.controller.state.revoked.add("revoked-when-ready")


@app.task
def add(x: int, y: int) -> int:
    return x + y

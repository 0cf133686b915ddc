"""An app of ours on RabbitMQ whose queues do more than keep messages."""

from __future__ import annotations

import os
from types import SimpleNamespace

from conforming import make
from kombu import Exchange, Queue
from kombu.common import Broadcast


def made(broker: str, backend: str) -> SimpleNamespace:
    """Define the application."""
    names = make(
        broker,
        backend,
        task_queues=(
            Queue("ranked", Exchange("ranked"), routing_key="ranked", max_priority=10),
            Queue(
                "letters", Exchange("letters"), routing_key="letters",
                queue_arguments={"x-dead-letter-exchange": "undelivered"},
            ),
            Queue(
                "strict", Exchange("strict", arguments={"alternate-exchange": "undelivered"}), routing_key="the one key"
            ),
            Queue("given", Exchange("given", type="topic", passive=True), routing_key="given.*"),
            Queue("quiet", no_declare=True),
            Broadcast("everyone"),
        ),
    )  # fmt: skip
    names.app.conf.task_default_queue = "ranked"
    return names


if "TEST_BROKER_URL" in os.environ:
    app = made(os.environ["TEST_BROKER_URL"], os.environ["TEST_RESULT_BACKEND"]).app

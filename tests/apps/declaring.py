"""An app whose queues show every argument that a declaration can have."""

from __future__ import annotations

import importlib
import os
from typing import Any

from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

topic = Exchange("declared.topic", type="topic")
behind = Exchange("declared.behind", type="fanout", durable=False, auto_delete=True)


def make(library: Any) -> Any:
    """Define the application with a library."""
    app = library.Celery("declaring", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_default_queue="declared.default",
        task_default_queue_type="quorum" if os.environ.get("TEST_QUEUE_TYPE") == "quorum" else "classic",
        task_default_exchange_type="topic" if os.environ.get("TEST_QUEUE_TYPE") == "quorum" else "direct",
        # What -Q names and nobody configured.
        task_create_missing_queue_type="quorum" if os.environ.get("TEST_QUEUE_TYPE") == "classic" else "classic",
        task_create_missing_queue_exchange_type=os.environ.get("TEST_MISSING_EXCHANGE_TYPE"),
        # Who ran a task is in its result.
        result_extended=True,
        task_queue_max_priority=7 if os.environ.get("TEST_QUEUE_TYPE") == "ranked" else None,
    )
    if os.environ.get("TEST_QUEUE_TYPE", "classic") == "classic":
        app.conf.task_queues = (
            Queue("declared.default", Exchange("declared.default"), routing_key="declared.default"),
            Queue("declared.priorities", Exchange("declared.direct"), routing_key="p", max_priority=10),
            Queue(
                "declared.bounded", topic, routing_key="a.#", expires=3600.0, message_ttl=60.5, max_length=1000,
                max_length_bytes=1 << 20,
                queue_arguments={"x-dead-letter-exchange": "declared.behind", "x-dead-letter-routing-key": "dead"},
            ),
            Queue(
                "declared.bound",
                bindings=[binding(topic, routing_key="b.*"), binding(topic, routing_key="c", arguments={"x": 1})],
            ),
            Queue("declared.passing", behind, durable=False, auto_delete=True),
            Queue(
                "declared.alternate",
                Exchange("declared.alternating", arguments={"alternate-exchange": "declared.behind"}),
                routing_key="alternate", binding_arguments={"y": "text"}, consumer_arguments={"x-priority": 3},
            ),
            Queue("declared.quiet", Exchange("declared.quiet", no_declare=True), no_declare=True),
            Queue("declared.given", Exchange("declared.given", type="topic", passive=True), routing_key="given.*"),
            Broadcast("declared.all", queue="declared.all", auto_delete=False),
        )  # fmt: skip

    @app.task(name="declaring.answer", shared=False)
    def answer(value: Any) -> Any:
        return value

    @app.task(name="declaring.answer_at_last", shared=False, bind=True)
    def answer_at_last(self: Any, value: Any) -> Any:
        """Send the message on once, to where it was delivered from."""
        if not self.request.retries:
            raise self.retry(countdown=0)
        return value

    return app


if "TEST_BROKER_URL" in os.environ:
    app = make(importlib.import_module(os.environ.get("TEST_LIBRARY", "celery")))

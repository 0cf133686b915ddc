"""An app of our own on RabbitMQ."""

from __future__ import annotations

import os

from pyworker import Celery

app = Celery("own_rabbitmq", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.task_publish_retry = False


@app.task
def add(x: int, y: int) -> int:
    return x + y

"""The application of the soak: short tasks, one in a hundred raises."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("soak", broker=os.environ["SOAK_BROKER_URL"], backend=os.environ["SOAK_BROKER_URL"])
app.conf.update(result_expires=10, broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task
def work(number: int) -> int:
    """Return the number, or raise."""
    if number % 100 == 0:
        raise ValueError(number)
    return number

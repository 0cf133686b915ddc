"""An application whose schedule celery-redbeat keeps in Redis."""

from __future__ import annotations

import os

import journal
from celery import Celery
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry

app = Celery("redbeaten", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.broker_connection_retry_on_startup = True
app.conf.redbeat_redis_url = os.environ["TEST_BROKER_URL"]
app.conf.beat_max_loop_interval = 0.2


@app.task
def tick(label: str) -> None:
    journal.stamp("ticks", "ran", label=label)


@app.task
def add_entry(name: str, every_s: float) -> str:
    """Change the schedule from inside a task, as applications do."""
    entry = RedBeatSchedulerEntry(name, "redbeaten.tick", schedule(every_s), args=[name], app=app)
    entry.save()
    return str(entry.key)

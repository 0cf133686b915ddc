"""The guide's tasks, for any library: only the import line says which."""

import os
import time
from pathlib import Path

from kombu import Exchange, Queue

from pyworker import Celery, Task, group

#: What error callbacks write down: a file for each failed task.
NOTES = Path(os.environ["TEST_NOTES"])

app = Celery("proj", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_extended=True,
    task_queues=[
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("video", Exchange("video", type="topic"), routing_key="video.#"),
    ],
)


@app.task
def add(x, y, debug=False):
    return x + y


@app.task
def mul(x, y):
    return x * y


@app.task
def xsum(numbers):
    return sum(numbers)


tsum = xsum


@app.task
def same(value):
    return value


@app.task
def raising():
    raise ValueError("something was wrong")


@app.task(typing=False)
def untyped(x, y):
    return x + y


@app.task(name="sum-of-two-numbers")
def named(x, y):
    return x + y


@app.task(bind=True)
def hello(self, a, b):
    self.update_state(state="PROGRESS", meta={"progress": 50})
    self.update_state(state="PROGRESS", meta={"progress": 90})
    return f"hello world: {a + b}"


@app.task(rate_limit="100/m")
def limited():
    return time.time()


@app.task(bind=True, autoretry_for=(ValueError,), retry_backoff=True, retry_jitter=False)
def backs_off(self):
    if self.request.retries < 1:
        raise ValueError("not yet")
    return time.time()


class SaysWhen(Task):
    """Says when it would be tried again, instead of doing it."""

    def retry(self, *args, **options):
        raise KeyError(options["countdown"])


@app.task(base=SaysWhen, autoretry_for=(ValueError,), retry_backoff=True, retry_jitter=False)
def doubles():
    raise ValueError("not yet")


@app.task(base=SaysWhen, autoretry_for=(ValueError,), retry_backoff=3, retry_jitter=False)
def trebles():
    raise ValueError("not yet")


@app.task(bind=True)
def compress(self, name):
    delivery = self.request.delivery_info
    return [name, delivery["exchange"], delivery["routing_key"]]


@app.task(bind=True, max_retries=2)
def retried(self, delays):
    try:
        raise ValueError("again")
    except ValueError as error:
        raise self.retry(exc=error, countdown=delays) from error


@app.task(bind=True)
def whoami(self):
    request = self.request
    return {
        "id": request.id, "root_id": request.root_id, "parent_id": request.parent_id, "retries": request.retries,
        "called_directly": request.called_directly, "delivery": request.delivery_info["routing_key"],
        "group": request.group,
    }  # fmt: skip


@app.task(bind=True)
def replaced_by_task(self, x):
    return self.replace(add.s(x, 100))


@app.task(bind=True)
def replaced_by_chain(self, x):
    return self.replace(add.s(x, 1) | mul.s(10))


@app.task(bind=True)
def replaced_by_group(self, x):
    return self.replace(group(add.s(x, i) for i in range(3)))


@app.task(bind=True)
def replaced_by_chord(self, x):
    return self.replace(group(add.s(x, i) for i in range(3)) | xsum.s())


@app.task(bind=True)
def adds_to_chord(self, x):
    # Its place is this task's own, so the two values may change places.
    self.add_to_chord(add.s(x, 0))
    return x


@app.task(bind=True)
def sends_children(self):
    return [add.delay(1, i).id for i in range(2)]


@app.task(bind=True)
def waits(self):
    return add.delay(1, 1).get(timeout=5)


@app.task(bind=True)
def waits_anyway(self, task_id):
    return app.AsyncResult(task_id).get(timeout=5, disable_sync_subtasks=False)


def note(task_id, error):
    """Write a failure down; the file is there when it is complete."""
    unfinished = NOTES / f"{task_id}.unfinished"
    unfinished.write_text(f"{type(error).__name__}: {error}")
    unfinished.rename(NOTES / task_id)


@app.task
def on_error(request, error, traceback):
    note(request.id, error)


@app.task
def old_errback(task_id):
    note(task_id, app.AsyncResult(task_id).result)


@app.task(bind=True)
def stamps(self):
    return [self.request.stamped_headers, self.request.stamps]

"""A producer: sends one task of each kind, waits for the results and prints them with the rows in the database."""

from __future__ import annotations

import json
import sys
import time

import django
from shop.celery import app

django.setup()

from celery import chord  # noqa: E402
from django_celery_results.models import TaskResult  # noqa: E402

from shop.orders import tasks  # noqa: E402


def main() -> None:
    """Run the scenario one task after the other, so that what is observed has one order."""
    outcomes: dict[str, object] = {}

    def finish(label: str, result: object) -> None:
        try:
            outcomes[label] = result.get(timeout=30, interval=0.05)  # type: ignore[attr-defined]
        except Exception as error:
            outcomes[label] = repr(error)

    finish("add", tasks.add.delay(2, 3))
    finish("fail", tasks.fail.delay("boom"))
    finish("retry", tasks.retry_once.delay())
    finish("register", tasks.register.delay("somebody"))
    finish("expected", tasks.expected.delay())
    finish("chain", (tasks.add.s(1, 1) | tasks.add.s(10))())
    if app.conf.result_backend != "django-db":
        finish("chord", chord([tasks.add.s(1, 1), tasks.add.s(2, 2)])(tasks.total.s()))
    tasks.silent.delay()
    finish("last", tasks.add.delay(0, 0))
    rows = [
        [row.task_name, row.status, row.result, row.task_args, row.task_kwargs, bool(row.traceback), bool(row.worker)]
        for row in TaskResult.objects.order_by("id")
    ]
    json.dump({"outcomes": outcomes, "rows": rows, "at": time.time()}, sys.stdout)


main()

"""A producer: registers users in transactions and prints what comes of it."""

from __future__ import annotations

import json
import sys

import django
from store.celery import app

django.setup()

from django.db import connection, transaction  # noqa: E402

from store.orders.tasks import count, register  # noqa: E402


def main() -> None:
    """Run the scenario."""
    outcome: dict[str, object] = {"time_zone": str(app.timezone), "serial": []}
    for name in ("a", "b", "c"):
        outcome["serial"].append(register.delay(name).get(timeout=30))  # type: ignore[attr-defined]
    sent: list[object] = []
    keep = type(count._actual()).apply_async  # what the app's own class sends by

    def remember(self: object, *args: object, **options: object) -> object:
        sent.append(keep(self, *args, **options))
        return sent[-1]

    type(app.tasks["store.orders.tasks.count"]).apply_async = remember  # type: ignore[method-assign]
    with transaction.atomic():
        count.delay_on_commit()
        count.apply_async_on_commit(countdown=0)
        outcome["sent_before_commit"] = len(sent)
    outcome["sent_after_commit"] = len(sent)
    outcome["counts"] = [result.get(timeout=30) for result in sent]  # type: ignore[attr-defined]
    try:
        with transaction.atomic():
            count.delay_on_commit()
            raise KeyError
    except KeyError:
        outcome["sent_after_rollback"] = len(sent)
    outcome["vendor"] = connection.vendor
    json.dump(outcome, sys.stdout)


main()

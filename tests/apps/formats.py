"""An app that accepts every serializer of kombu and sends what it is told to."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import journal
import lanes
from celery import Celery, Task

app = Celery("formats", **lanes.new_app_settings())
app.conf.update(
    accept_content=["json", "pickle", "yaml", "msgpack"],
    broker_connection_retry_on_startup=True,
)
lanes.enter_lane()


class Point:
    """A class that only pickle carries."""

    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y


@app.task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@app.task
def describe(*values: Any) -> list[list[str]]:
    return [[type(value).__name__, repr(value)] for value in values]


@app.task
def typed_values() -> dict[str, Any]:
    return {
        "datetime": datetime.datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc),
        "date": datetime.date(2026, 2, 3),
        "decimal": decimal.Decimal("12345678901234567890.125"),
        "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "bytes": b"\x00\xff",
        "big": 2**63 + 1,
        "float": 0.1,
        "text": "täxt \U0001f40d \x00",
        "nothing": None,
        "nested": {"list": [1, [2, [3]]]},
    }


@app.task(serializer="pickle")
def sum_point(point: Point) -> int:
    return point.x + point.y


@app.task(bind=True)
def request_of(self: Task) -> dict[str, Any]:
    request = self.request
    names = (
        "id group chord correlation_id args kwargs origin retries is_eager eta expires hostname delivery_info "
        "reply_to called_directly timelimit callbacks errbacks utc root_id parent_id chain task shadow "
        "group_index ignore_result replaced_task_nesting stamped_headers stamps argsrepr kwargsrepr lang"
    )
    found = {name: getattr(request, name, "absent") for name in names.split()}
    found["custom"] = request.get("custom", "absent")
    found["headers"] = request.headers
    return found


@app.task
def length(text: str) -> int:
    return len(text)


@app.task
def gated(gate: str) -> None:
    journal.record(gate)
    journal.wait_at_gate(gate)


@app.task
def note(journal_name: str, label: Any) -> None:
    journal.record(journal_name, label=label)

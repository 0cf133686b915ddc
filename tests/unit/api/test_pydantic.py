"""``pydantic=True``: models in, models out, and the messages that Celery would send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Optional

import pytest
from pydantic import BaseModel, ValidationError

from pyworker import Celery

if TYPE_CHECKING:
    from conftest import Side


class Order(BaseModel):
    """What a task gets."""

    number: int
    notes: list[str] = []


class Bill(BaseModel):
    """What a task returns."""

    total: float


def make_tasks(app: Any) -> dict[str, Any]:
    """The same tasks in any application."""

    @app.task(name="models.bill", pydantic=True, shared=False)
    def bill(order: Order, factor: float = 1, other: Optional[Order] = None) -> Bill:  # noqa: UP045 - both spellings
        assert isinstance(order, Order)
        assert other is None or isinstance(other, Order)
        return Bill(total=order.number * factor)

    @app.task(name="models.bound", pydantic=True, bind=True, shared=False)
    def bound(self: Any, order: Order | None, *rest: Any) -> Any:
        return [self.name, None if order is None else order.number, list(rest)]

    @app.task(name="models.strict", pydantic=True, pydantic_strict=True, shared=False)
    def strict(order: Order) -> int:
        return order.number

    return {"bill": bill, "bound": bound, "strict": strict}


def test_models_are_made_and_dumped() -> None:
    tasks = make_tasks(Celery("models", set_as_current=False))
    assert tasks["bill"]({"number": "3"}, 2) == {"total": 6.0}
    assert tasks["bill"](Order(number=3), other={"number": 1}) == {"total": 3.0}
    assert tasks["bound"]({"number": 1}, 5) == ["models.bound", 1, [5]]
    assert tasks["bound"](None) == ["models.bound", None, []]
    with pytest.raises(ValidationError):
        tasks["bill"]({"number": "x"})
    with pytest.raises(ValidationError):
        tasks["bill"](None)
    with pytest.raises(ValidationError):
        tasks["strict"]({"number": "3"})
    with pytest.raises(TypeError):
        tasks["bill"].check_arguments((), {})


def test_messages_are_celerys(ours: Side, stock: Side) -> None:
    bodies = []
    for side in (ours, stock):
        tasks = make_tasks(side.app)
        tasks["bill"].delay(Order(number=1, notes=["a"]), other=Order(number=2))
        tasks["bound"].delay(Order(number=4), 5)
        tasks["bill"].delay({"number": 3})
        side.library.group(tasks["bill"].s(Order(number=number)) for number in range(2)).apply_async()
        bodies.append([json.dumps(message["body"], sort_keys=True) for message in side.published()])
    assert bodies[0] == bodies[1]

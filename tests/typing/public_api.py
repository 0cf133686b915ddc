"""What type checkers see of the public API; checked by ``tests/typing/test_public_api.py``, never run.

Every line with ``# wrong`` must be an error.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from pyworker import AsyncResult, Celery, Signature, Task, current_app, current_task, shared_task
from pyworker.contrib.abortable import AbortableTask
from pyworker.eager_result import EagerResult
from pyworker.schedules import crontab

app = Celery("typed", broker="redis://", backend="redis://")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="named", max_retries=5)
def named(text: str) -> str:
    return text


@app.task(bind=True)
def bound(self: Task[..., Any], count: int) -> list[int]:
    return [count]


@shared_task(bind=True)
def shared(self: Any, key: str, *, flag: bool) -> None: ...


assert_type(add.delay(1, 2), AsyncResult[int])
assert_type(add.delay(1, y=2).get(), int)
assert_type(named.delay("a").get(timeout=1), str)
assert_type(bound.delay(3).get(), list[int])
assert_type(add(1, 2), int)
assert_type(add.s(1), Signature)
assert_type(add.si(1, 2), Signature)
assert_type(shared.delay("k", flag=True), AsyncResult[None])
assert_type(add.apply_async((1, 2), countdown=3), AsyncResult[int])
app.send_many([add.s(1, 2), named.s("a")])

assert_type(add.apply((1, 2)), EagerResult)
assert_type(current_app.main, str | None)
assert_type(current_task.name, str)
assert_type(current_app.conf.humanize(), str)
assert_type(current_app.control.purge(), int)
assert_type(app.add_periodic_task(crontab(hour=3), add.s(1)), str)


async def send() -> None:
    assert_type(await add.adelay(1, y=2), AsyncResult[int])
    assert_type(await add.aapply_async((1, 2), countdown=3), AsyncResult[int])
    await add.adelay("a")  # wrong


@app.on_after_configure.connect
def configured(sender: Celery, **_: Any) -> None:
    sender.add_periodic_task(10.0, add.s(1, 2), name="often")


class Own(AbortableTask[..., Any]):
    def run(self, x: int) -> int:
        return x if self.is_aborted() else 0


app.register_task(Own())
app.register_task(Own)
app.register_task("own")  # wrong
current_app.no_such_thing()  # wrong
app.config_from_object(1, namespace=2)  # wrong
crontab(hour=1.5)  # wrong
add.delay("a")  # wrong
add.delay(1, 2, 3)  # wrong
add.delay()  # wrong
add.delay(1, z=2)  # wrong
named.delay(1)  # wrong
bound.delay("a")  # wrong
add.si("a")  # wrong
shared.delay("k")  # wrong
text: str = add.delay(1).get()  # wrong

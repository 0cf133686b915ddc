"""Examples of section 17 that need no worker: they hold for the app objects that pyworker must leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain, group

from support.stage import load_app

if TYPE_CHECKING:
    from types import ModuleType

    from support.redis_server import RedisServer


@pytest.fixture
def tasks(server: RedisServer) -> ModuleType:
    return load_app("tasks", broker=server.url)


def test_call_runs_in_the_process(tasks: Any) -> None:
    assert tasks.add(2, 2) == 4


def test_signature_fields(tasks: Any) -> None:
    signature = tasks.add.signature((2, 2), {"debug": True}, countdown=10)
    assert signature.args == (2, 2)
    assert signature.kwargs == {"debug": True}
    assert signature.options == {"countdown": 10}


def test_signature_reprs(tasks: Any) -> None:
    add, mul = tasks.add, tasks.mul
    assert repr(add.s(2, 2)) == "tasks.add(2, 2)"
    assert repr(add.s(2, 2, debug=True)) == "tasks.add(2, 2, debug=True)"
    assert repr(add.s(2).clone(args=(4,), kwargs={"debug": True})) == "tasks.add(4, 2, debug=True)"
    assert "tasks.add(2, 2), add(4, 4)" in repr(group(add.s(2, 2), add.s(4, 4)))
    assert repr(chain(add.s(4, 4), mul.s(8), mul.s(10))) == "tasks.add(4, 4) | mul(8) | mul(10)"


def test_names(tasks: Any) -> None:
    assert tasks.app.main == "tasks"
    assert tasks.add.name == "tasks.add"

    class MyCelery(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return super().gen_task_name(name, module.removesuffix(".tasks"))

    app = MyCelery("own", set_as_current=False)

    @app.task
    def task_a() -> None: ...

    task_a.__module__ = "moduleA.tasks"
    assert app.gen_task_name("taskA", "moduleA.tasks") == "moduleA.taskA"

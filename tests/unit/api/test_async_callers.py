"""Sending from coroutines: the event loop goes on, parents and errors are as ever."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from pyworker.exceptions import OperationalError

if TYPE_CHECKING:
    from conftest import Side


def test_many_are_sent_at_once(ours: Side) -> None:
    async def send() -> list[str]:
        results = await asyncio.gather(*(ours.add.aapply_async((number,), countdown=0) for number in range(20)))
        last = await ours.add.adelay(20, y=1)
        return [*(result.id for result in results), last.id]

    ids = asyncio.run(send())
    sent = {message["headers"]["id"]: message["body"][0] for message in ours.published()}
    assert [sent[task_id] for task_id in ids] == [[number] for number in range(21)]


def test_the_loop_goes_on_while_the_broker_makes_it_wait(ours: Side) -> None:
    gate = threading.Event()
    connected = ours.app.tasks["proj.add"]
    kind = type(connected)

    class Slow(kind):  # type: ignore[misc, valid-type]
        def apply_async(self, *args: object, **options: object) -> object:
            assert gate.wait(30)
            return super().apply_async(*args, **options)

    async def send() -> None:
        sending = asyncio.create_task(Slow().aapply_async((1,)))
        # The loop gets its turns although the sending has not come back.
        for _ in range(3):
            await asyncio.sleep(0)
        assert not sending.done()
        gate.set()
        await sending

    asyncio.run(send())
    assert len(ours.published()) == 1


def test_errors_are_raised_where_it_is_awaited(ours: Side) -> None:
    async def send() -> None:
        with pytest.raises(TypeError):
            await ours.add.adelay()
        ours.app.conf.broker_url = "redis://127.0.0.1:1/0"
        with pytest.raises(OperationalError):
            await ours.add.aapply_async((1,), retry=False)

    asyncio.run(send())


def test_the_running_task_is_the_parent(ours: Side) -> None:
    app = ours.app

    @app.task(name="proj.parent", bind=True, shared=False)
    def parent(self: object) -> list[str]:
        async def send() -> str:
            return (await ours.add.aapply_async((1,))).id  # type: ignore[no-any-return]

        return [asyncio.run(send()), *(child.id for child in parent.request.children)]

    sent_id, child_id = parent.apply(task_id="the-parent").get()
    (message,) = ours.published()
    assert sent_id == child_id == message["headers"]["id"]
    assert message["headers"]["parent_id"] == message["headers"]["root_id"] == "the-parent"

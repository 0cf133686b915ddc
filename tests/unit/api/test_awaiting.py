"""``await result.aget()``: many at once on one connection, no lost wake-up, the event loop stays free."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import pyworker
from pyworker import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.redis_server import RedisServer

DEADLINE_S = 20.0


@pytest.fixture
def app(shared_server: RedisServer) -> Iterator[pyworker.Celery]:
    """An app with results on the module's server."""
    shared_server.client.flushall()
    made = pyworker.Celery("awaiting", backend=shared_server.url_with("", 4), set_as_current=False)
    yield made
    made.close()


def finish(app: pyworker.Celery, task_id: str, value: Any = 1, state: str = "SUCCESS") -> None:
    app.backend.store_result(task_id, value, state)


async def waited_for(server: RedisServer, *ids: str) -> None:
    """Wait until somebody has subscribed to all of these."""
    channels = [f"celery-task-meta-{task_id}" for task_id in ids]

    async def subscribed() -> None:
        while not all(dict(await asyncio.to_thread(server.client.pubsub_numsub, *channels)).values()):
            await asyncio.sleep(0.005)

    await asyncio.wait_for(subscribed(), DEADLINE_S)


def test_a_result_that_is_there(app: pyworker.Celery) -> None:
    finish(app, "a", [1])
    assert asyncio.run(app.AsyncResult("a").aget(timeout=DEADLINE_S)) == [1]


def test_a_result_that_comes_later_while_the_loop_is_free(app: pyworker.Celery, shared_server: RedisServer) -> None:
    async def main() -> tuple[Any, int]:
        waiting = asyncio.ensure_future(app.AsyncResult("b").aget(timeout=DEADLINE_S))
        await waited_for(shared_server, "b")
        turns = 0
        for _ in range(50):
            await asyncio.sleep(0)
            turns += 1
        await asyncio.to_thread(finish, app, "b", 2)
        return await waiting, turns

    assert asyncio.run(main()) == (2, 50)


def test_many_share_one_connection(app: pyworker.Celery, shared_server: RedisServer) -> None:
    ids = [f"m{number}" for number in range(1000)]

    async def main() -> list[Any]:
        waiting = [asyncio.ensure_future(app.AsyncResult(task_id).aget(timeout=DEADLINE_S)) for task_id in ids]
        await waited_for(shared_server, ids[0], ids[-1])
        listening = [entry for entry in shared_server.client.client_list() if int(entry["sub"])]
        assert len(listening) == 1
        await asyncio.to_thread(lambda: [finish(app, task_id, task_id) for task_id in ids])
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == ids
    assert not [entry for entry in shared_server.client.client_list() if int(entry["sub"])]


def test_a_broken_connection_is_opened_again(app: pyworker.Celery, shared_server: RedisServer) -> None:
    async def main() -> Any:
        waiting = asyncio.ensure_future(app.AsyncResult("c").aget(timeout=DEADLINE_S))
        await waited_for(shared_server, "c")
        shared_server.client.client_kill_filter(_type="pubsub")
        await asyncio.to_thread(finish, app, "c", 3)
        return await waiting

    assert asyncio.run(main()) == 3


def test_a_result_without_announcement_is_found_too(app: pyworker.Celery, shared_server: RedisServer) -> None:
    async def main() -> Any:
        waiting = asyncio.ensure_future(app.AsyncResult("d").aget(timeout=DEADLINE_S))
        await waited_for(shared_server, "d")
        await asyncio.to_thread(
            app.backend.client.set, "celery-task-meta-d", '{"status": "SUCCESS", "result": 4, "task_id": "d"}'  # type: ignore[attr-defined]
        )  # fmt: skip
        return await waiting

    assert asyncio.run(main()) == 4


def test_failures_timeouts_and_cancelling(app: pyworker.Celery, shared_server: RedisServer) -> None:
    finish(app, "f", ValueError("no"), "FAILURE")

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await app.AsyncResult("f").aget(timeout=DEADLINE_S)
        assert isinstance(await app.AsyncResult("f").aget(timeout=DEADLINE_S, propagate=False), ValueError)
        with pytest.raises(exceptions.TimeoutError):
            await app.AsyncResult("never").aget(timeout=0.1)
        first, second = (asyncio.ensure_future(app.AsyncResult("g").aget(timeout=DEADLINE_S)) for _ in range(2))
        await waited_for(shared_server, "g")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.to_thread(finish, app, "g", 5)
        assert await second == 5

    asyncio.run(main())


def test_a_failed_parent_ends_the_wait(app: pyworker.Celery) -> None:
    finish(app, "parent", KeyError("up"), "FAILURE")
    child = app.AsyncResult("child", parent=app.AsyncResult("parent"))
    with pytest.raises(KeyError, match="up"):
        asyncio.run(child.aget(timeout=DEADLINE_S))


def test_groups(app: pyworker.Celery, shared_server: RedisServer) -> None:
    inner = pyworker.GroupResult("inner", [app.AsyncResult("h2"), app.AsyncResult("h3")], app=app)
    whole = pyworker.GroupResult("whole", [app.AsyncResult("h1"), inner], app=app)

    async def main() -> Any:
        waiting = asyncio.ensure_future(whole.aget(timeout=DEADLINE_S))
        await waited_for(shared_server, "h1", "h2", "h3")
        await asyncio.to_thread(lambda: [finish(app, f"h{number}", number) for number in (3, 1, 2)])
        return await waiting

    assert asyncio.run(main()) == [1, [2, 3]]
    failing = pyworker.GroupResult("failing", [app.AsyncResult("open"), app.AsyncResult("bad")], app=app)
    finish(app, "bad", ValueError("first"), "FAILURE")
    with pytest.raises(ValueError, match="first"):
        asyncio.run(failing.aget(timeout=DEADLINE_S))


def test_a_dead_server_is_reported(app: pyworker.Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyworker.backends.async_waiting.RECONNECTIONS", 1)
    monkeypatch.setattr("pyworker.backends.async_waiting.RECONNECTION_PAUSE_S", 0.0)
    gone = pyworker.Celery("gone", backend="redis://127.0.0.1:1/0", set_as_current=False)
    with pytest.raises(exceptions.OperationalError, match="result store redis://127"):
        asyncio.run(gone.AsyncResult("x").aget(timeout=DEADLINE_S))

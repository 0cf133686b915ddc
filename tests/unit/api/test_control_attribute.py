"""``app.control``: the client of remote control, as Celery's users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.app.control import Control, Inspect
from pyworker.contrib.testing.app import TestApp
from pyworker.contrib.testing.worker import start_worker
from support.waiting import eventually

if TYPE_CHECKING:
    from support.redis_server import RedisServer


def test_workers_answer_and_obey(server: RedisServer) -> None:
    config = {"broker_url": server.url, "result_backend": server.url, "worker_enable_remote_control": True}
    app = TestApp(config=config)
    app.task(name="controlled", shared=False)(lambda: 1)
    assert isinstance(app.control, Control)
    assert isinstance(app.control.inspect(), Inspect)
    with start_worker(app, hostname="w@here") as worker:
        assert app.control.ping(timeout=5, limit=1) == [{"w@here": {"ok": "pong"}}]
        # Tasks that other tests share belong to every app of the process.
        assert "controlled" in app.control.inspect(timeout=5, limit=1).registered()["w@here"]
        assert app.send_task("controlled").get(timeout=20) == 1
        app.control.shutdown(destination=["w@here"])
        eventually(lambda: not worker.is_alive, deadline_s=60, what="the worker obeys")


def test_waiting_messages_are_deleted(server: RedisServer) -> None:
    app = TestApp(config={"broker_url": server.url})
    for _ in range(3):
        app.send_task("unknown")
    assert app.control.purge() == 3
    assert app.control.purge() == 0
    app.close()

"""Which writes of the result backend become the engine's, and what waits for them."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import BackendStoreError
from celery.result import GroupResult

from pyworker._native import NativeError
from pyworker.compat.celery.result_writer import ResultWriter


class Link:
    """Keeps what the engine would get."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.refuses = False

    def store(self, sequence: int, key: bytes, value: bytes, is_success: bool) -> None:
        if self.refuses:
            raise NativeError("refused")
        assert type(key) is bytes
        assert type(value) is bytes
        self.calls.append((sequence, key, is_success))

    def flush(self) -> None:
        if self.refuses:
            raise NativeError("refused")
        self.calls.append("flush")


class Client:
    """Keeps what Celery itself would send."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def get(self, key: bytes) -> None:
        self._calls.append(("GET", key))

    def mget(self, keys: list[bytes]) -> list[None]:
        self._calls.append(("MGET", *keys))
        return [None] * len(keys)

    def incr(self, key: bytes, _by: int) -> None:
        self._calls.append(("INCR", key))

    def delete(self, key: bytes) -> None:
        self._calls.append(("DEL", key))

    def pipeline(self) -> Client:
        return self

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setex(self, key: bytes, _expires: int, _value: Any) -> None:
        self._calls.append(("SET", key))

    def publish(self, _key: bytes, _value: Any) -> None:
        pass

    def execute(self) -> None:
        pass


@pytest.fixture
def app() -> Celery:
    return Celery("writer", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def writer(app: Celery, link: Link) -> ResultWriter:
    app.backend.__dict__["client"] = Client(link.calls)
    writer = ResultWriter(app.backend, link)  # type: ignore[arg-type]
    writer.install()
    writer.sequence, writer.task_id = 5, "running"
    return writer


KEY = b"celery-task-meta-running"


@pytest.mark.usefixtures("writer")
def test_states_of_the_running_task_belong_to_its_job(app: Celery, link: Link) -> None:
    app.backend.store_result("running", {"done": 1}, "PROGRESS")
    app.backend.store_result("running", 3, states.SUCCESS)
    app.backend.mark_as_failure("running", ValueError("x"), traceback="tb")
    assert link.calls == [(5, KEY, False), (5, KEY, True), (5, KEY, False)]


@pytest.mark.usefixtures("writer")
def test_states_of_other_tasks_belong_to_no_job(app: Celery, link: Link) -> None:
    app.backend.store_result("other", 1, "PROGRESS")
    assert link.calls == [(0, b"celery-task-meta-other", False)]


@pytest.mark.usefixtures("writer")
def test_reads_wait_for_the_childs_own_writes(app: Celery, link: Link) -> None:
    app.backend.store_result("running", 1, "PROGRESS")
    assert app.AsyncResult("running").state == states.PENDING
    app.backend.mget([KEY])
    app.backend.add_to_chord("g", "running")
    app.backend.forget("running")
    assert link.calls == [
        (5, KEY, False),
        "flush",
        ("GET", KEY),
        "flush",
        ("MGET", KEY),
        "flush",
        ("INCR", b"celery-taskset-meta-g.t"),
        "flush",
        ("DEL", KEY),
    ]


@pytest.mark.usefixtures("writer")
def test_groups_are_saved_at_once(app: Celery, link: Link) -> None:
    app.backend.save_group("g", GroupResult("g", [], app=app))
    assert link.calls == ["flush", ("SET", b"celery-taskset-meta-g")]


@pytest.mark.usefixtures("writer")
def test_other_threads_write_through_celery(app: Celery, link: Link) -> None:
    backend = app.backend
    thread = threading.Thread(target=backend.store_result, args=("running", 1, "PROGRESS"))
    thread.start()
    thread.join()
    assert link.calls == [("GET", KEY), ("SET", KEY)]


@pytest.mark.usefixtures("writer")
def test_processes_forked_by_a_task_write_through_celery(app: Celery, link: Link) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            app.backend.store_result("running", 1, "PROGRESS")
            code = 0 if link.calls == [("GET", KEY), ("SET", KEY)] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    app.backend.store_result("running", 1, "PROGRESS")
    assert link.calls == [(5, KEY, False)]


@pytest.mark.usefixtures("writer")
def test_refused_writes_are_store_errors(app: Celery, link: Link) -> None:
    link.refuses = True
    with pytest.raises(BackendStoreError):
        app.backend.store_result("running", 1, states.SUCCESS)
    with pytest.raises(BackendStoreError):
        app.backend.get(KEY)


@pytest.mark.usefixtures("writer")
def test_values_too_large_for_redis_are_refused(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(app.backend), "_MAX_STR_VALUE_SIZE", 100)
    with pytest.raises(BackendStoreError, match="value too large"):
        app.backend.store_result("running", "x" * 200, states.SUCCESS)


@pytest.mark.usefixtures("writer")
def test_a_second_writer_takes_the_place_of_the_first(app: Celery, link: Link) -> None:
    second = Link()
    ResultWriter(app.backend, second).install()  # type: ignore[arg-type]
    app.backend.store_result("running", 1, "PROGRESS")
    assert link.calls == []
    assert second.calls == [(0, KEY, False)]

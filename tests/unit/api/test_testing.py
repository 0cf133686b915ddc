"""``pyworker.contrib.pytest``: fixtures with a real worker in the test's own process, used by a project's tests."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from glob import glob
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import Celery
from pyworker._native import NativeError
from pyworker.contrib.testing.app import TestApp, discard_memory, setup_default_app
from pyworker.contrib.testing.clock import TestClock
from pyworker.contrib.testing.worker import start_worker
from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured, TaskRevokedError
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from pyworker.worker.sqlite_config import SqliteAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.redis_server import RedisServer

_CONFTEST = """
import pytest
pytest_plugins = ["pyworker.contrib.pytest"]

@pytest.fixture(scope="session")
def celery_includes():
    return ["included"]
"""
_TESTS = """
import os, threading, pytest
from pyworker import shared_task

@shared_task
def mul(x, y):
    return x * y

def test_a_task_of_the_test_itself(celery_app, celery_worker):
    seen = []
    @celery_app.task(name="own", shared=False)
    def own(value):
        seen.append((value, os.getpid(), threading.current_thread().name))
        return value
    celery_worker.reload()
    own.delay("seen").get(timeout=20)
    assert seen == [("seen", os.getpid(), "pyworker-test-worker")]

def test_shared_tasks_run(celery_worker):
    assert mul.delay(4, 4).get(timeout=20) == 16
    from pyworker import current_app
    from included import found
    assert current_app.tasks[found.name].delay().get(timeout=20) == os.getpid()

def test_errors_and_retries(celery_app, celery_worker):
    assert celery_app.send_task("included.flaky").get(timeout=20) == 2
    with pytest.raises(ZeroDivisionError):
        celery_app.send_task("included.broken").get(timeout=20)

@pytest.mark.celery(task_default_queue="elsewhere")
def test_settings_of_one_test(celery_app, celery_worker):
    assert celery_app.conf.task_default_queue == "elsewhere"
    assert celery_app.send_task(mul.name, (2, 3)).get(timeout=20) == 6

@pytest.mark.celery(task_always_eager=True)
def test_without_a_worker(celery_app, depends_on_current_app):
    assert mul.delay(2, 2).get() == 4

def test_time(celery_worker, celery_clock):
    later = mul.apply_async((3, 3), countdown=3600)
    celery_clock.advance(3601)
    assert later.get(timeout=20) == 9

def test_session(celery_session_worker, celery_session_app):
    assert celery_session_app.tasks[mul.name].delay(1, 1).get(timeout=20) == 1
"""
_INCLUDED = """
import os
from pyworker import shared_task

@shared_task
def found():
    return os.getpid()

@shared_task(bind=True)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries

@shared_task
def broken():
    1 / 0
"""


def test_a_projects_tests_have_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(textwrap.dedent(_CONFTEST))
    (tmp_path / "test_project.py").write_text(_TESTS)
    (tmp_path / "included.py").write_text(_INCLUDED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin", "PYTHONPATH": "."},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


def test_apps_without_a_broker_have_a_memory_of_their_own() -> None:
    first, second = TestApp(), TestApp()
    assert first.conf.broker_url.startswith("memory://")
    assert first.conf.broker_url == first.conf.result_backend
    assert first.conf.broker_url != second.conf.broker_url
    named = TestApp(broker="redis://localhost:1")
    assert (named.conf.broker_url, named.conf.result_backend) == ("redis://localhost:1", None)
    assert TestApp(config={"broker_url": "redis://localhost:1"}).conf.result_backend is None


@pytest.fixture
def memory_app() -> Iterator[Celery]:
    """An app on ``memory://`` that leaves nothing behind."""
    app = TestApp()
    yield app
    app.close()
    path = parse_sqlite_url(app.conf.broker_url, setting="broker_url").path
    discard_memory(app)
    assert glob(f"{path}*") == []


def test_tasks_defined_later_are_known_after_a_reload(memory_app: Celery) -> None:
    with start_worker(memory_app) as worker:
        assert find_current_app() is memory_app

        @memory_app.task(name="later", shared=False)
        def later() -> str:
            return "known"

        worker.reload()
        assert later.delay().get(timeout=20) == "known"
        worker.reload()
        assert later.delay().get(timeout=20) == "known"
    assert worker.exit_code == 0


def test_an_app_is_one_workers_at_a_time(memory_app: Celery) -> None:
    for _ in range(2):
        with start_worker(memory_app) as worker:
            with pytest.raises(ImproperlyConfigured, match="runs this app already"), start_worker(memory_app):
                pass
            assert memory_app.tasks["celery.ping"].delay().get(timeout=20) == "pong"
        assert worker.exit_code == 0


def test_the_clock_decides_what_is_due_and_what_has_expired(memory_app: Celery) -> None:
    clock = TestClock(memory_app)

    @memory_app.task(name="when", shared=False)
    def when() -> str:
        return memory_app.now().isoformat()

    too_late = when.apply_async(expires=1800, countdown=2400)
    later = when.apply_async(countdown=3600)
    begun = memory_app.now()
    with start_worker(memory_app):
        clock.wait_for_scheduled(2)
        assert later.state == "PENDING"
        clock.advance(timedelta(hours=1))
        ran_at = datetime.fromisoformat(later.get(timeout=20))
        assert ran_at - begun >= timedelta(hours=1)
        with pytest.raises(TaskRevokedError):
            too_late.get(timeout=20)
        # What is published from now on counts from there.
        assert memory_app.now() >= begun + timedelta(hours=1)
        with pytest.raises(TimeoutError, match="0 of 1"):
            clock.wait_for_scheduled(1, timeout=0)
        clock.advance(86_400)
        assert memory_app.AsyncResult(later.id).state == "PENDING"


def test_a_clock_is_moved_ahead_and_only_that_of_memory(memory_app: Celery, tmp_path: Path) -> None:
    clock = TestClock(memory_app)
    for by in (-1, timedelta(seconds=-1), float("nan")):
        with pytest.raises(ValueError, match="ahead"):
            clock.advance(by)
    file = open_file(SqliteAddress(path=str(tmp_path / "durable.db")), setting="test")
    with pytest.raises(NativeError, match="durable"):
        file.move_clock(1)
    assert file.clock_ahead_s == 0
    with pytest.raises(ImproperlyConfigured, match="memory://"):
        TestClock(TestApp(broker=f"sqlite:///{tmp_path}/durable.db"))


def make_app(server: RedisServer, **settings: Any) -> Celery:
    """An app for tests."""
    return TestApp(config={"broker_url": server.url, "result_backend": server.url, **settings})


def test_a_worker_starts_and_stops_as_often_as_it_is_wanted(server: RedisServer) -> None:
    app = make_app(server)
    seen: list[int] = []

    @app.task(name="often", shared=False)
    def often(number: int) -> int:
        seen.append(number)
        return number

    for number in range(3):
        with start_worker(app, hostname=f"w{number}@here") as worker:
            assert often.delay(number).get(timeout=20) == number
            assert worker.hostname == f"w{number}@here"
    assert seen == [0, 1, 2]
    left = often.delay(3)
    with start_worker(app, perform_ping_check=False):
        assert left.get(timeout=20) == 3


def test_what_cannot_start_says_why(server: RedisServer) -> None:
    with (
        pytest.raises(ImproperlyConfigured, match="only solo"),
        start_worker(make_app(server), pool="prefork"),
    ):
        pass
    with (
        pytest.raises(ImproperlyConfigured, match="worker_consumer"),
        start_worker(make_app(server, worker_consumer="my.Consumer")),
    ):
        pass


def test_the_current_app_is_put_back() -> None:
    before = find_current_app()
    app = TestApp()
    with setup_default_app(app):
        app.set_current()
        assert find_current_app() is app
    assert find_current_app() is before
    with setup_default_app(TestApp(), use_trap=True):
        assert find_current_app() is None

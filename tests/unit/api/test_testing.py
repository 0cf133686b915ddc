"""``pyworker.contrib.pytest``: fixtures with a real worker in the test's own process, used by a project's tests."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import Celery
from pyworker.contrib.testing.app import TestApp, setup_default_app
from pyworker.contrib.testing.worker import start_worker
from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pathlib import Path

    from support.redis_server import RedisServer

_CONFTEST = """
import pytest
pytest_plugins = ["pyworker.contrib.pytest"]

@pytest.fixture(scope="session")
def celery_config():
    return {{"broker_url": "{url}", "result_backend": "{url}"}}

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
    celery_worker.request_shutdown()

def test_shared_tasks_run(celery_worker):
    from pyworker import current_app
    assert current_app.tasks[mul.name].delay(4, 4).get(timeout=20) == 16
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


def test_a_projects_tests_have_the_fixtures(tmp_path: Path, server: RedisServer) -> None:
    (tmp_path / "conftest.py").write_text(textwrap.dedent(_CONFTEST.format(url=server.url)))
    (tmp_path / "test_project.py").write_text(_TESTS)
    (tmp_path / "included.py").write_text(_INCLUDED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin", "PYTHONPATH": "."},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


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

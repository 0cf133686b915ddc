"""Fixtures for pytest, with Celery's names: an app, and a worker that runs its tasks in a thread.

In ``conftest.py``: ``pytest_plugins = ["pyworker.contrib.pytest"]``. Each app has a ``memory://`` of its own; another
broker is named by a fixture::

    @pytest.fixture(scope="session")
    def celery_config():
        return {"broker_url": "redis://localhost/0", "result_backend": "redis://localhost/1"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from pyworker.contrib.testing.app import TestApp, discard_memory, setup_default_app

if TYPE_CHECKING:
    from pyworker.app.base import Celery
    from pyworker.contrib.testing.clock import TestClock
    from pyworker.contrib.testing.worker import TestWorkController


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "celery(**settings): settings of the test's app")


@contextmanager
def _app(
    request: pytest.FixtureRequest,
    settings: Mapping[str, Any],
    parameters: Mapping[str, Any],
    enable_logging: bool,
    use_trap: bool,
) -> Iterator[Celery]:
    marker = request.node.get_closest_marker("celery")
    config = {**settings, **(marker.kwargs if marker is not None else {})}
    app = TestApp(config=config, enable_logging=enable_logging, **parameters)
    try:
        with setup_default_app(app, use_trap=use_trap):
            yield app
    finally:
        discard_memory(app)


@contextmanager
def _worker(
    app: Celery, includes: Sequence[str], tasks: Sequence[Any], pool: str, parameters: Mapping[str, Any]
) -> Iterator[TestWorkController]:
    for module in includes:
        import_module(module)
    for task in tasks:
        app.register_task(task)
    # By name: tests that only need an app need no engine.
    start_worker = import_module("pyworker.contrib.testing.worker").start_worker
    with start_worker(app, pool=pool, **parameters) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the apps; to be overridden."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of the apps' constructor; to be overridden."""
    return {}


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether workers set up logging; to be overridden."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules that workers import; to be overridden."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Tasks written as classes that workers get; to be overridden."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The workers' pool; there is only ``solo`` in a thread."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Further arguments of ``start_worker``; to be overridden."""
    return {}


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether code that relies on a current app shall fail; to be overridden."""
    return False


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """An app for the whole session, the current one."""
    with _app(request, celery_config, celery_parameters, celery_enable_logging, use_celery_app_trap) as app:
        if not use_celery_app_trap:
            app.set_current()
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorkController]:
    """A worker for the whole session."""
    with _worker(
        celery_session_app, celery_includes, celery_class_tasks, celery_worker_pool, celery_worker_parameters
    ) as worker:
        yield worker


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """An app for one test; ``@pytest.mark.celery(...)`` has settings for it."""
    with _app(request, celery_config, celery_parameters, celery_enable_logging, use_celery_app_trap) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorkController]:
    """A worker for one test's app."""
    with _worker(
        celery_app, celery_includes, celery_class_tasks, celery_worker_pool, celery_worker_parameters
    ) as worker:
        yield worker


@pytest.fixture
def celery_clock(celery_app: Celery) -> TestClock:
    """The clock of the test's app, which must be on ``memory://``: ``celery_clock.advance(3600)``."""
    clock: TestClock = import_module("pyworker.contrib.testing.clock").TestClock(celery_app)
    return clock


@pytest.fixture
def depends_on_current_app(celery_app: Celery) -> None:
    """Make the test's app the current one."""
    celery_app.set_current()

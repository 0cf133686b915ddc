"""Applications for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyworker.app.base import Celery
from pyworker.current import current_apps, restore_current_apps
from pyworker.identifiers import uuid
from pyworker.transport.sqlite_file import discard_file
from pyworker.transport.sqlite_url import parse_sqlite_url

__all__ = ["DEFAULT_TEST_CONFIG", "TestApp", "discard_memory", "setup_default_app"]

#: Settings of an app for tests. Broker and result store are a ``memory://`` of its own unless others are named.
DEFAULT_TEST_CONFIG: Mapping[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "worker_redirect_stdouts": False,
    "worker_enable_remote_control": False,
    "accept_content": {"json"},
    "enable_utc": True,
    "timezone": "UTC",
}

#: What names a broker, or something that does.
_NAMING = frozenset({"broker", "broker_url", "broker_read_url", "config_source"})


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    **options: Any,
) -> Celery:
    """Return an app with settings for tests: on a ``memory://`` of its own unless it is told otherwise.

    Args:
        name: its main module's name.
        config: further settings; a ``broker_url`` without a ``result_backend`` means no results.
        enable_logging: let the worker set up logging as it does outside of tests.
        set_as_current: make it the current app.
        options: of :class:`pyworker.Celery`.
    """
    app = Celery(name or "pyworker.tests", set_as_current=set_as_current, **options)
    settings = {**DEFAULT_TEST_CONFIG, "worker_hijack_root_logger": enable_logging, **(config or {})}
    if not {*settings, *options, *options.get("changes", ())} & _NAMING:
        url = f"memory://{uuid()}"
        settings = {"broker_url": url, "result_backend": url, **settings}
    app.add_defaults(settings)
    return app


# pytest takes it for a class of tests otherwise.
TestApp.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def setup_default_app(app: Celery, use_trap: bool = False) -> Iterator[None]:
    """Put back, after a ``with`` block, which apps were current before, and close the app.

    Args:
        app: the app that is used meanwhile.
        use_trap: let there be no current app, so that code that relies on one fails.
    """
    before = current_apps()
    if use_trap:
        restore_current_apps((None, None))
    try:
        yield
    finally:
        restore_current_apps(before)
        app.close()


def discard_memory(app: Celery) -> None:
    """Give back the memory of an app's ``memory://``; the app and its workers must be closed."""
    for setting in ("broker_url", "result_backend"):
        url = app.conf[setting]
        if isinstance(url, str) and url.startswith("memory://"):
            discard_file(parse_sqlite_url(url, setting=setting))

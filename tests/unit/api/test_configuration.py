"""Settings: where they come from, what wins, what is refused."""

from __future__ import annotations

import datetime
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.redis_url import parse_redis_url, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app() -> pyworker.Celery:
    return pyworker.Celery("configured", set_as_current=False)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """An importable module of settings."""
    made = ModuleType("settings_of_a_test")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_defaults_are_the_references(app: pyworker.Celery) -> None:
    assert app.conf.task_default_queue == "celery"
    assert app.conf["result_expires"] == datetime.timedelta(days=1)
    assert app.conf.get("no_such_setting", 7) == 7
    assert "no_such_setting" not in app.conf
    with pytest.raises(AttributeError, match="no_such_setting"):
        _ = app.conf.no_such_setting


def test_changes_win_over_what_is_loaded(app: pyworker.Celery) -> None:
    app.config_from_object({"task_default_queue": "loaded", "timezone": "Europe/Oslo"})
    app.add_defaults({"task_default_queue": "default", "worker_concurrency": 3})
    assert app.conf.task_default_queue == "loaded"
    assert app.conf.worker_concurrency == 3
    app.conf.task_default_queue = "changed"
    assert app.conf.task_default_queue == "changed"
    app.conf.update({"task_default_queue": "updated"}, worker_concurrency=4)
    assert (app.conf.task_default_queue, app.conf.worker_concurrency) == ("updated", 4)


@pytest.mark.parametrize("library", [pyworker, celery], ids=["ours", "celery's"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["set", "load"], (5, "loaded")),
        (["set", "read", "load"], (5, "loaded")),
        (["load", "set", "load again"], (5, "celery")),
        (["load", "read", "set", "load again"], (None, "celery")),
        (["read", "set", "load now"], (None, "loaded")),
    ],
)
def test_loading_forgets_what_was_set_since_the_first_reading(
    library: Any, steps: list[str], expected: tuple[int | None, str]
) -> None:
    app = library.Celery("reloading", broker="memory://", set_as_current=False)
    for step in steps:
        match step:
            case "set":
                app.conf.task_time_limit = 5
            case "read":
                assert app.conf.result_expires
            case "load again":
                app.config_from_object({"result_expires": 5})
            case _:
                app.config_from_object({"task_default_queue": "loaded"}, force=step == "load now")
    assert (app.conf.task_time_limit, app.conf.task_default_queue) == expected


def test_arguments_of_the_constructor_stay() -> None:
    app = pyworker.Celery("kept", broker="redis://kept", set_as_current=False, task_default_queue="q")
    app.config_from_object({"broker_url": "redis://other"})
    assert (app.conf.broker_url, app.conf.task_default_queue) == ("redis://kept", "q")


def test_modules_objects_and_names_of_both(app: pyworker.Celery, module: ModuleType) -> None:
    module.task_default_queue = "of module"  # type: ignore[attr-defined]
    module.settings = SimpleNamespace(task_default_queue="of object")  # type: ignore[attr-defined]
    for source, expected in [
        (module, "of module"),
        (module.__name__, "of module"),
        (f"{module.__name__}:settings", "of object"),
        (f"{module.__name__}.settings", "of object"),
    ]:
        app.config_from_object(source)
        assert app.conf.task_default_queue == expected


def test_a_namespace_and_old_names(app: pyworker.Celery) -> None:
    app.config_from_object(SimpleNamespace(CELERY_TASK_DEFAULT_QUEUE="django", OTHER=1), namespace="CELERY")
    assert app.conf.task_default_queue == "django"
    app.config_from_object(SimpleNamespace(CELERY_DEFAULT_QUEUE="old", BROKER_URL="redis://old"))
    assert (app.conf.task_default_queue, app.conf.broker_url) == ("old", "redis://old")
    assert app.conf.CELERY_DEFAULT_QUEUE == "old"


def test_the_environment_names_a_module(
    app: pyworker.Celery, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.task_default_queue = "of variable"  # type: ignore[attr-defined]
    monkeypatch.setenv("MY_CONFIG", module.__name__)
    app.config_from_envvar("MY_CONFIG")
    assert app.conf.task_default_queue == "of variable"
    with pytest.raises(ImproperlyConfigured, match="NO_SUCH_VARIABLE"):
        app.config_from_envvar("NO_SUCH_VARIABLE")


def test_the_environment_names_the_module_of_an_app_without_a_source(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Celery, whose ``--config`` sets the variable."""
    module.task_default_queue, module.broker_url = "of variable", "redis://variable"  # type: ignore[attr-defined]
    monkeypatch.setenv("CELERY_CONFIG_MODULE", module.__name__)
    for library in (pyworker, celery):
        bare = library.Celery("bare", set_as_current=False)
        assert (bare.conf.task_default_queue, bare.conf.broker_url) == ("of variable", "redis://variable")
        given = library.Celery("given", broker="redis://given", set_as_current=False)
        assert given.conf.broker_url == "redis://given"
        given.config_from_object(SimpleNamespace(task_default_queue="of object"))
        assert given.conf.task_default_queue == "of object"
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "no.such.module")
    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.module"):
        _ = pyworker.Celery("wrong", set_as_current=False).conf.broker_url


def test_what_cannot_be_loaded_is_named(app: pyworker.Celery) -> None:
    app.config_from_object("no.such.module")
    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.module"):
        _ = app.conf.broker_url
    app.config_from_object("no.such.module", silent=True)
    assert app.conf.broker_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_prefetch_multiplier", "many"),
        ("worker_prefetch_multiplier", 1.5),
        ("task_time_limit", "soon"),
        ("task_acks_late", "perhaps"),
        ("broker_transport_options", ["a"]),
    ],
)
def test_values_of_the_wrong_type_are_named(app: pyworker.Celery, name: str, value: object) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        app.conf[name] = value


def test_values_from_the_environment_are_read_as_numbers(app: pyworker.Celery) -> None:
    app.conf.update(
        worker_concurrency="4", task_time_limit="2.5", task_acks_late="true", worker_prefetch_multiplier="1"
    )
    assert app.conf.task_time_limit == 2.5
    assert app.conf.task_acks_late is True
    assert app.conf.worker_prefetch_multiplier == 1


def test_time_zones(app: pyworker.Celery) -> None:
    assert app.now().utcoffset() == datetime.timedelta(0)
    app.conf.timezone = "Asia/Kolkata"
    assert app.now().utcoffset() == datetime.timedelta(hours=5, minutes=30)
    app.conf.timezone = "Nowhere/Else"
    with pytest.raises(ImproperlyConfigured, match="timezone"):
        app.now()


def test_redis_addresses() -> None:
    plain = parse_redis_url("redis://", setting="broker_url")
    assert (plain.host, plain.port, plain.database, plain.username, plain.password) == (
        "localhost",
        6379,
        0,
        None,
        None,
    )
    full = parse_redis_url("redis://us%40er:p%2Fw@host:7000/5?socket_timeout=3", setting="broker_url")
    assert (full.host, full.port, full.database, full.username, full.password) == ("host", 7000, 5, "us@er", "p/w")
    assert full.socket_timeout_s == 3
    assert parse_redis_url("redis://:only@host", setting="broker_url").password == "only"
    unix = parse_redis_url("redis+socket:///run/redis.sock?virtual_host=3", setting="broker_url")
    assert (unix.unix_path, unix.database) == ("/run/redis.sock", 3)
    assert without_password("redis://u:secret@host/1") == "redis://u:**@host/1"
    assert without_password("redis://host/1") == "redis://host/1"

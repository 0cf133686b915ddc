"""Settings: mistakes are named, secrets are not, every way in is checked."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import celery
import pytest
from celery.app.defaults import NAMESPACES, flatten

from pyworker import Celery
from pyworker.app.defaults import DEFAULTS
from pyworker.conf_defaults import SETTINGS
from pyworker.exceptions import ImproperlyConfigured, PyworkerWarning


def make_app(**options: Any) -> Celery:
    """An app that leaves this process's current one alone."""
    return Celery("settings", set_as_current=False, **options)


def test_every_setting_of_celery_is_known_by_all_its_names() -> None:
    known = {setting.name: set(setting.old_names) for setting in SETTINGS}
    for name, option in flatten(NAMESPACES):
        assert name in known
        app = make_app()
        for old in known[name]:
            app.conf[old] = option.default
            assert app.conf.value_set_for(name)
    assert set(DEFAULTS) >= {name for name, _ in flatten(NAMESPACES)}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("task_rout", "did you mean task_routes"),
        ("worker_concurency", "did you mean worker_concurrency"),
        ("result_extendet", "did you mean result_extended"),
        ("brokr_url", "did you mean broker_url"),
        ("task_something_entirely_different", "is not a known setting"),
    ],
)
def test_a_name_that_looks_like_a_setting_warns(name: str, hint: str) -> None:
    with pytest.warns(PyworkerWarning, match=hint):
        make_app().conf[name] = 1
    with pytest.warns(PyworkerWarning, match=hint):
        make_app(**{name: 1})
    app = make_app()
    app.config_from_object({name: 1})
    with pytest.warns(PyworkerWarning, match=hint):
        assert app.conf.get(name) == 1


def test_a_namespace_is_looked_through_whole() -> None:
    app = make_app()
    source = SimpleNamespace(CELERY_TASK_ROUTS={}, CELERY_WORKER_CONCURRENCY="3", OTHER=1, celery_enable_utc=False)
    app.config_from_object(source, namespace="CELERY")
    with pytest.warns(PyworkerWarning, match="CELERY_TASK_ROUTS is not a known setting; did you mean task_routes"):
        assert app.conf.worker_concurrency == 3
    assert app.conf.enable_utc is False


def test_what_else_a_module_holds_is_nobodys_business_but_can_be_read() -> None:
    module = ModuleType("configuration")
    module.__dict__.update(task_default_queue="q", os=warnings, helper=lambda: None, REDBEAT_URL="x", my_own=2)
    app = make_app()
    app.config_from_object(module)
    assert app.conf.task_default_queue == "q"
    assert (app.conf.REDBEAT_URL, app.conf.my_own) == ("x", 2)
    assert set(app.conf.without_defaults()) == {"task_default_queue"}
    with pytest.raises(AttributeError, match="no setting is called 'nothing'"):
        _ = app.conf.nothing


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("result_backend", [], None),
        ("imports", "a, b", None),
        ("timezone", datetime.timezone.utc, None),
        ("task_default_rate_limit", "100/m", None),
        ("worker_concurrency", [], "must be of type int"),
        ("task_default_rate_limit", "100/d", "must be of type rate"),
        ("result_expires", "soon", "must be of type seconds"),
        ("imports", [1], "must be of type names"),
        ("timezone", 3, "must be of type zone"),
        ("broker_heartbeat", "often", "must be of type float"),
        ("worker_prefetch_multiplier", "many", "must be of type int"),
        ("worker_prefetch_multiplier", 1.5, "must be of type int"),
        ("task_soft_time_limit", True, "must be of type float"),
        ("task_acks_late", "perhaps", "must be of type bool"),
        ("broker_transport_options", "fast", "must be of type dict"),
        ("task_default_queue", ["a"], "must be of type str"),
        ("task_default_queue", True, "must be of type str"),
        ("task_protocol", 3, "must be one of 1, 2"),
        ("task_default_delivery_mode", "sometimes", "must be one of"),
        ("worker_pool_start_method", "thread", "must be one of"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_settings_name(name: str, value: Any, reason: str | None) -> None:
    if reason is None:
        make_app().conf[name] = value
        return
    for give in (lambda: make_app().conf.update({name: value}), lambda: make_app(**{name: value})):
        with pytest.raises(ImproperlyConfigured, match=f"^{name} {reason}"):
            give()
    app = make_app()
    app.config_from_object({name: value})
    for _ in range(2):
        # Not only the first time: an app with half a configuration must not go on.
        with pytest.raises(ImproperlyConfigured, match=f"^{name} {reason}"):
            _ = app.conf.broker_url


def test_texts_become_what_the_setting_is() -> None:
    app = make_app()
    app.conf.update(worker_prefetch_multiplier="2", task_acks_late="yes", task_time_limit="1.5")
    app.conf.worker_state_db = Path("x")
    assert (app.conf.worker_prefetch_multiplier, app.conf.task_acks_late, app.conf.task_time_limit) == (2, True, 1.5)
    app.config_from_cmdline(["broker.heartbeat=10", ".concurrency=4"], namespace="worker")
    assert (app.conf.broker_heartbeat, app.conf.worker_concurrency) == (10, 4)
    with pytest.raises(ImproperlyConfigured, match="write name=value"):
        app.config_from_cmdline(["broker_heartbeat"])


def secrets() -> dict[str, Any]:
    """Settings with things in them that must not be shown."""
    return {
        "broker_url": "amqp://user:hidden-1@host:5672//",
        "result_backend": "sentinel://:hidden-2@one:1;sentinel://:hidden-3@two:2",
        "redis_password": "hidden-4",
        "security_key": "hidden-5",
        "database_engine_options": {"password": "hidden-6"},
        "broker_transport_options": {"sentinel_kwargs": {"password": "hidden-7"}, "visibility_timeout": 5},
        "task_default_routing_key": "shown",
    }


def test_people_see_no_secrets_and_everything_else() -> None:
    app = make_app()
    app.conf.update(secrets())
    text = app.conf.humanize()
    assert "hidden" not in text
    assert "task_default_routing_key: 'shown'" in text
    assert "'amqp://user:********@host:5672//'" in text
    assert "visibility_timeout" in text
    table = app.conf.table(censored=False)
    assert table == {**secrets()}
    assert "worker_concurrency" not in table
    assert app.conf.table(with_defaults=True)["task_default_queue"] == "celery"


def test_the_table_masks_what_celerys_masks() -> None:
    ours, stock = make_app(), celery.Celery("stock", set_as_current=False)
    for app in (ours, stock):
        app.conf.update({key: value for key, value in secrets().items() if isinstance(value, str)})
    hidden = [{key for key, value in app.conf.table().items() if "hidden" in str(value)} for app in (ours, stock)]
    assert hidden == [set(), set()]


def test_values_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(broker="redis://one", backend="redis://two")
    assert app.conf.broker_url == "redis://one"
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://there")
    assert (app.conf.broker_url, app.conf.result_backend) == ("redis://elsewhere", "redis://there")


def test_changes_count_at_once_and_defaults_last() -> None:
    app = make_app(task_default_queue="fixed")
    app.add_defaults({"task_default_queue": "added", "worker_concurrency": 7})
    app.add_defaults(lambda: {"worker_concurrency": 8, "result_extended": True})
    assert (app.conf.task_default_queue, app.conf.worker_concurrency, app.conf.result_extended) == ("fixed", 7, True)
    app.conf.worker_concurrency = 1
    assert app.conf.worker_concurrency == 1
    assert app.either("worker_concurrency", 5) == 1
    assert app.either("worker_max_tasks_per_child", None, 5) == 5
    assert app.conf.CELERYD_CONCURRENCY == 1
    assert app.conf.setdefault("worker_concurrency", 9) == 1
    assert app.conf.value_set_for("CELERYD_CONCURRENCY")


def test_djangos_time_zone_counts_where_ours_is_not_set() -> None:
    app = make_app()
    app.config_from_object(SimpleNamespace(TIME_ZONE="Europe/Paris"), namespace="CELERY")
    assert str(app.timezone) == "Europe/Paris"
    app.config_from_object(SimpleNamespace(TIME_ZONE="Europe/Paris", CELERY_TIMEZONE="Asia/Tokyo"), namespace="CELERY")
    assert str(app.timezone) == "Asia/Tokyo"

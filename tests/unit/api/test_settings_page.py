"""docs/settings.md: its table is what the package says, and every setting is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from celery.app.defaults import NAMESPACES, flatten

from pyworker import Celery
from pyworker.conf_defaults import BY_NAME, SETTINGS
from pyworker.conf_effects import REFUSED, WITHOUT_EFFECT
from pyworker.conf_types import checked

ROOT = Path(__file__).resolve().parents[3]


def test_the_table_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "settings_table"), "--check"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_setting_of_celerys_is_known() -> None:
    assert {name.lower() for name, _ in flatten(NAMESPACES)} <= BY_NAME.keys()


def test_every_default_is_of_its_own_type() -> None:
    assert [setting.name for setting in SETTINGS if checked(setting.name, setting.default) != setting.default] == []


def test_defaults_are_celerys() -> None:
    """But for those that name a class or a place of Celery's own."""
    stock = {name.lower(): option.default for name, option in flatten(NAMESPACES)}
    app = Celery("defaults", set_as_current=False)
    different = {name for name, value in stock.items() if _plain(app.conf[name]) != _plain(value)}
    assert different <= {"worker_consumer", "worker_autoscaler", "beat_scheduler"}, {
        name: (app.conf[name], stock[name]) for name in different
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value


def test_reasons_are_of_settings() -> None:
    assert (REFUSED.keys() | WITHOUT_EFFECT.keys()) <= BY_NAME.keys()
    assert not REFUSED.keys() & WITHOUT_EFFECT.keys()

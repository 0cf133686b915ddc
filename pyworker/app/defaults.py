"""The settings' defaults, under the name of Celery's module."""

from __future__ import annotations

from typing import Any

from pyworker.conf_defaults import SETTINGS, Setting

__all__ = ["DEFAULTS", "SETTINGS", "SETTING_KEYS", "Setting"]

#: Every setting's default by the setting's name.
DEFAULTS: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
#: Names of all settings.
SETTING_KEYS = frozenset(DEFAULTS)

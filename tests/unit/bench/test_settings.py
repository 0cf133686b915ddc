"""Settings travel to the worker in its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyworker.bench.settings import AppSettings

if TYPE_CHECKING:
    import pytest


def test_settings_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AppSettings(
        broker_url="redis://:p%40ss@localhost:1/0",
        backend_url="redis://localhost:1/1",
        queue="bench-1",
        tally_path="/tmp/tally",
        tally_capacity=10,
        ignore_result=True,
        duration_s=0.25,
        work="print",
        lane="receivers",
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setitem(os.environ, name, value)
    assert AppSettings.from_environment() == settings

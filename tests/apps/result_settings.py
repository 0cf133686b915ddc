"""An app with one unusual result setting, named by ``TEST_RESULT_SETTING``."""

from __future__ import annotations

import os
from typing import Any

import lanes
from celery import Celery

app = Celery("result_settings", **lanes.new_app_settings())
app.conf.update(broker_connection_retry_on_startup=True, result_expires=120)
_setting = os.environ.get("TEST_RESULT_SETTING", "")
if _setting == "result_compression":
    app.conf.result_compression = "gzip"
elif _setting == "result_serializer":
    app.conf.update(result_serializer="pickle", accept_content=["json", "pickle"])
elif _setting == "prefix":
    app.conf.result_backend_transport_options = {"global_keyprefix": "team:"}
elif _setting == "extended":
    app.conf.result_extended = True
lanes.enter_lane()


@app.task
def echo(value: Any) -> Any:
    return value


@app.task
def echo_all(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@app.task
def fail() -> None:
    raise ValueError("with all details")

"""Tasks with a rate limit each, on either library."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

library: Any = import_module(os.environ.get("TEST_LIBRARY", "celery"))
app = library.Celery(
    "paced", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_RESULT_BACKEND"], set_as_current=False
)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task(name="paced.slow", shared=False, rate_limit="5/s", ignore_result=True)
def slow() -> None:
    """Five a second."""


@app.task(name="paced.slower", shared=False, rate_limit="100/m", ignore_result=True)
def slower() -> None:
    """A hundred a minute."""


@app.task(name="paced.fast", shared=False, rate_limit="10000/s", ignore_result=True)
def fast() -> None:
    """Ten thousand a second."""

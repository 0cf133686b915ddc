"""Loggers of tasks, formats and redirection, each in a process of its own: logging is global."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from pyworker.utils.log import get_logger, get_task_logger, mlevel

_FRAME = """
import io, json, logging, sys
out = io.StringIO()
class Out:
    def __init__(self): self.stream = out
sys.__stderr__ = out
from {library} import Celery
from {library} import signals
from {library}.utils.log import get_task_logger
app = Celery("logged", set_as_current=False)
app.conf.update(worker_log_format="ROOT %(levelname)s %(name)s %(message)s",
                worker_task_log_format="TASK %(levelname)s %(task_name)s [%(task_id)s] %(name)s %(message)s")
logger = get_task_logger("shop.tasks")
@app.task(name="shop.add", shared=False)
def add():
    logger.info("from the task")
    logging.getLogger("elsewhere").warning("from elsewhere")
    print("printed")
{body}
print(json.dumps(out.getvalue().splitlines()), file=sys.__stdout__)
"""


def lines_of(body: str, library: str = "pyworker") -> Any:
    """Run a program that logs, and return the lines."""
    done = subprocess.run(
        [sys.executable, "-c", _FRAME.format(library=library, body=textwrap.dedent(body))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SETUPS = {
    "redirected": "app.log.setup(loglevel='INFO', colorize=False, redirect_stdouts=True)\nadd.apply(task_id='id-1')",
    "warnings only": "app.log.setup(loglevel='WARNING', colorize=False)\nadd.apply(task_id='id-1')",
    "twice, outside of tasks": "app.log.setup(loglevel='INFO')\napp.log.setup(loglevel='DEBUG')\nlogger.info('yes')",
    "a receiver sets up": """
        @signals.setup_logging.connect
        def own(loglevel, logfile, format, colorize, **_):
            logging.basicConfig(format="OWN %(message)s", level=loglevel, stream=sys.__stderr__)
        print(app.log.setup(loglevel='INFO'))
        logger.info('own')
        """,
    "a receiver changes": """
        @signals.after_setup_task_logger.connect
        def change(logger, **_):
            for handler in logger.handlers:
                handler.setFormatter(logging.Formatter("CHANGED %(message)s"))
        @signals.after_setup_logger.connect
        def change_root(logger, loglevel, **_):
            logger.addFilter(lambda record: True)
            logger.warning("root is set up at %s", loglevel)
        app.log.setup(loglevel='INFO')
        logger.info('text')
        """,
}


@pytest.mark.parametrize("name", SETUPS)
def test_lines_are_celerys(name: str) -> None:
    ours, stock = (lines_of(SETUPS[name], library) for library in ("pyworker", "celery"))
    # Celery's eager results have another logger's line about the run's time.
    assert [line for line in ours if "succeeded in" not in line] == [
        line for line in stock if "succeeded in" not in line
    ]


def test_errors_of_a_receiver_are_not_swallowed() -> None:
    body = """
        @signals.setup_logging.connect
        def own(**_):
            raise KeyError("mine")
        try:
            app.log.setup()
        except KeyError as error:
            print("raised", error, file=out)
        """
    assert "raised 'mine'" in lines_of(body)


def test_loggers_are_below_celerys() -> None:
    assert get_task_logger("tests.some.module").parent is get_logger("celery.task")
    assert get_task_logger("celery.task.mine").parent is get_logger("celery.task")
    child = get_task_logger("tests.some.module.below")
    assert child.parent is get_task_logger("tests.some.module")
    assert get_logger("tests.logger.apart").parent is logging.root
    with pytest.raises(RuntimeError, match="reserved"):
        get_task_logger("celery.task")
    assert (mlevel("info"), mlevel(10), mlevel(None)) == (20, 10, None)

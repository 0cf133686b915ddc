"""Up to its pool, our worker does what Celery's does, in the same order, with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("starting.py")


def start(kind: str, options: dict[str, Any], settings: dict[str, Any], environment: dict[str, str]) -> Any:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "C_FORCE", "_MP"))}
    paths = os.pathsep.join([*filter(None, [clean.get("PYTHONPATH", "")]), str(SCRIPT.parents[3])])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), kind, json.dumps({"options": options, "settings": settings})],
        env=clean | {"PYTHONPATH": paths, "C_FORCE_ROOT": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def both(
    options: dict[str, Any], settings: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> tuple[Any, Any]:
    stock = start("stock", options, settings or {}, environment or {})
    ours = start("ours", options, settings or {}, environment or {})
    return stock, ours


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"concurrency": 2, "hostname": "w1@here"}, {}),
    ({"concurrency": 1, "hostname": "w1@here", "loglevel": "INFO"}, {"worker_redirect_stdouts": False}),
    ({"concurrency": 1, "hostname": "w1@here", "queues": ["celery", "extra"]}, {}),
    ({"concurrency": 1, "hostname": "w1@here", "exclude_queues": ["other"]}, {"task_create_missing_queues": False}),
    ({"concurrency": 1, "hostname": "w1@here", "include": ["wave", "colorsys"]}, {"include": ["sndhdr"]}),
    ({"concurrency": 1, "hostname": "w1@here", "time_limit": 30.0, "soft_time_limit": 20.0}, {"task_time_limit": 40}),
    ({"hostname": "w1@here"}, {"worker_concurrency": 1, "worker_prefetch_multiplier": 7}),
    ({"concurrency": 1, "hostname": "w1@here", "prefetch_multiplier": 2}, {"worker_prefetch_multiplier": 7}),
    ({"concurrency": 1, "hostname": "w1@here"}, {"worker_direct": True, "worker_hijack_root_logger": False}),
    ({"concurrency": 1, "hostname": "w1@here"}, {"worker_log_format": "<%(levelname)s> ] %(message)s"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "settings"), CASES)
def test_start_equals_celerys(options: dict[str, Any], settings: dict[str, Any]) -> None:
    stock, ours = both(options, settings)
    creation = [event for event in stock["events"] if event[0] == "worker_before_create_process"]
    stock["events"] = [event for event in stock["events"] if event[0] != "worker_before_create_process"]
    if creation:
        # One fork is the origin of all children here, so it is sent once.
        assert ours["events"].pop()[0] == "worker_before_create_process"
    assert ours == stock


@pytest.mark.parametrize(
    "options", [{"queues": ["celery", "nope"]}, {"queues": ["celery"], "exclude_queues": ["nope"]}]
)
def test_queues_that_do_not_exist_end_as_with_celery(options: dict[str, Any]) -> None:
    stock, ours = both({"concurrency": 1, "hostname": "w1@here", **options}, {"task_create_missing_queues": False})
    assert ours.get("error") == stock.get("error")
    assert ours.get("queues") == stock.get("queues")


def test_unknown_queue_is_refused_in_celerys_words() -> None:
    options = {"concurrency": 1, "hostname": "w1@here", "queues": ["celery", "nope"]}
    ours = start("ours", options, {"task_create_missing_queues": False}, {})
    assert ours["error"][0] == "ImproperlyConfigured"
    assert "Trying to select queue subset of ['celery', 'nope']" in ours["error"][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_with_pickle_is_refused() -> None:
    settings = {"accept_content": ["pickle"]}
    ours = start("ours", {"concurrency": 1, "hostname": "w1@here"}, settings, {"C_FORCE_ROOT": ""})
    assert ours["error"][0] == "SecurityError"


def test_pool_that_is_not_there_yet_is_refused_by_name() -> None:
    ours = start("ours", {"hostname": "w1@here"}, {"worker_pool": "threads"}, {})
    assert ours["error"][0] == "ImproperlyConfigured"
    assert "threads" in ours["error"][1]

"""Root and pickle: refused with Celery's words and exit code by a worker of either library."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.redis_server import RedisServer
from support.worker import APPS

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The system's answers are replaced, so that this holds whoever runs the tests.
_AS_ROOT = """
import os, runpy, sys
for name in ("getuid", "geteuid", "getgid", "getegid"):
    setattr(os, name, lambda: 0)
sys.argv[0] = sys.argv[1]
del sys.argv[1]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def start(server: RedisServer, command: str, library: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a worker of the application ``coded``, which accepts pickle, as root."""
    settings = {
        **os.environ, "PYTHONPATH": str(APPS), "TEST_BROKER_URL": server.url, "TEST_RESULT_BACKEND": server.url,
        "TEST_LIBRARY": library, **environment,
    }  # fmt: skip
    if "C_FORCE_ROOT" not in environment:
        settings.pop("C_FORCE_ROOT", None)
    return subprocess.run(
        [sys.executable, "-c", _AS_ROOT, command, "-A", "coded", "worker", "-c", "1"],
        env=settings, cwd=APPS, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_pickle_as_root_is_refused_as_by_celery(server: RedisServer) -> None:
    stock = start(server, "celery", "celery")
    assert "a very bad idea" in stock.stdout + stock.stderr
    for library in ("celery", "pyworker"):
        ours = start(server, "pyworker", library)
        assert ours.returncode == stock.returncode == 1
        assert (ours.stdout.strip(), ours.stderr.strip()) == (stock.stdout.strip(), stock.stderr.strip())
    assert server.client.keys("*") == []

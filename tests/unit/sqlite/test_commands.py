"""``pyworker sqlite``: looking at a file and keeping it in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pyworker._native import SqliteFile
from pyworker.cli.sqlite import sqlite
from pyworker.worker.sqlite_config import SqliteAddress

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "queue.db")
    SqliteFile(SqliteAddress(path=path)).publish_many([("jobs", 0, b"one"), ("jobs", 9, b"two"), ("other", 0, b"x")])
    return path


def run(*words: str, text: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(sqlite, words, input=text)
    return result.exit_code, result.output


def test_queues_are_listed_and_purged(path: str) -> None:
    assert run("queues", path)[1].split() == [
        *("queue", "waiting", "scheduled", "held"),
        *("jobs", "2", "0", "0"),
        *("other", "1", "0", "0"),
    ]
    assert run("purge", path, "jobs", text="n\n")[0] == 1
    assert run("purge", path, "jobs", "--force") == (0, "2 messages deleted\n")
    assert run("purge", path, "unknown", "-f") == (0, "0 messages deleted\n")


def test_files_are_checked_and_compacted(path: str) -> None:
    assert run("check", path) == (0, "ok\n")
    code, output = run("vacuum", path)
    assert (code, "bytes before" in output) == (0, True)
    assert run("check", path) == (0, "ok\n")


def test_looking_makes_no_file(tmp_path: Path) -> None:
    code, output = run("queues", str(tmp_path / "missing.db"))
    assert (code, "no such file" in output) == (1, True)
    assert list(tmp_path.iterdir()) == []

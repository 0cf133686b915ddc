"""A worker whose file cannot be used says why and ends before it takes a task; one that may come back is waited for."""

from __future__ import annotations

import os
import resource
import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest

import pyworker
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from support.kinds import Kind
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyworker._native import SqliteFile

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
#: What a worker gets that finds a full disk: no file may grow beyond this.
FULL_BYTES = 16


def address_of(path: Path) -> str:
    return f"sqlite:///{path}"


def opened(path: Path) -> SqliteFile:
    return open_file(parse_sqlite_url(address_of(path), setting="test"), setting="test")


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()


def with_a_message(path: Path) -> SqliteFile:
    file = opened(path)
    file.publish("filed", 0, b"{}")
    return file


def of_another_program(path: Path) -> None:
    change(path, "CREATE TABLE accounts (name TEXT)")


def of_a_newer_version(path: Path) -> None:
    with_a_message(path).close()
    change(path, "PRAGMA user_version = 99")


def no_database(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 certainly no database, but long enough to be one" * 40)


def damaged(path: Path) -> None:
    file = with_a_message(path)
    file.publish_many([("filed", 0, b"x" * 500) for _ in range(2000)])
    file.close()
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as raw:
        raw.seek(path.stat().st_size // 2)
        raw.write(os.urandom(16_384))


def a_folder(path: Path) -> None:
    path.mkdir()


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "another program's file": (of_another_program, "another program"),
    "a newer schema": (of_a_newer_version, r"newer pyworker \(schema 99"),
    "no database": (no_database, "not a database"),
    "a damaged file": (damaged, "damaged"),
    "a folder": (a_folder, "is a folder, not a file"),
}


def worker_on(path: Path, library: str, backend: str | None = None) -> WorkerProcess:
    environment = {"TEST_LIBRARY": library}
    return WorkerProcess(
        OURS, "filed", broker=address_of(path), backend=backend, options=("-c", "1"), environment=environment
    )


@pytest.mark.parametrize(
    ("case", "library"),
    [*((case, "pyworker") for case in CASES), ("a newer schema", "celery"), ("a damaged file", "celery")],
)
def test_a_file_that_is_not_to_be_used_is_refused_at_start(case: str, library: str, tmp_path: Path) -> None:
    prepare, complaint = CASES[case]
    path = tmp_path / "queue.db"
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    worker = worker_on(path, library)
    try:
        worker.start(is_ready=False)
        worker.wait_for_line(complaint, deadline_s=60)
        assert worker.wait(deadline_s=60) != 0
        assert str(path) in worker.log
        assert "Traceback" not in worker.log
        assert "received" not in worker.log
    finally:
        worker.close()
    if path.is_file() and "damaged" not in case:
        # Whatever was in it is in it still.
        assert path.read_bytes() == before


def test_a_missing_folder_is_refused_at_start(tmp_path: Path) -> None:
    worker = worker_on(tmp_path / "missing" / "queue.db", "pyworker")
    try:
        worker.start(is_ready=False)
        worker.wait_for_line("its folder does not exist", deadline_s=60)
        assert worker.wait(deadline_s=60) != 0
    finally:
        worker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_a_result_file_that_is_not_to_be_used_is_refused_at_start(library: str, tmp_path: Path) -> None:
    results = tmp_path / "results.db"
    of_a_newer_version(results)
    worker = worker_on(tmp_path / "queue.db", library, backend=address_of(results))
    try:
        worker.start(is_ready=False)
        worker.wait_for_line(r"result_backend.*results\.db.*newer pyworker \(schema 99", deadline_s=60)
        assert worker.wait(deadline_s=60) != 0
        assert "Traceback" not in worker.log
        assert "ready." not in worker.log
    finally:
        worker.close()


def test_a_newer_version_that_takes_the_file_over_ends_a_running_worker(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    worker = worker_on(path, "pyworker")
    try:
        worker.start()
        change(path, "PRAGMA user_version = 99")
        worker.wait_for_line(r"newer pyworker \(schema 99, this one knows \d+\)", deadline_s=60)
        assert worker.wait(deadline_s=60) != 0
        assert "Traceback" not in worker.log
    finally:
        worker.close()


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_a_full_disk_is_waited_for_and_nothing_is_lost(library: str, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    file = opened(path)
    notes = tmp_path / "notes"
    worker = worker_on(path, library)
    try:
        worker.start()
        # No file of the worker's main process can be written, as if the disk were full.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))
        mark = worker.mark()
        send_notes(path, notes, 20)
        worker.wait_for_line(r"(?i)disk|full|i/o", deadline_s=60, after=mark)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: set(lines_of(notes)) == {str(n) for n in range(20)}, deadline_s=60, what="all ran")
        eventually(lambda: not any(sum(counts) for _name, *counts in file.queues()), deadline_s=60, what="all over")
        assert worker.stop() == 0
    finally:
        worker.close()
    assert file.problems() == []


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def send_notes(path: Path, notes: Path, count: int) -> None:
    """Send tasks that write a line each, as any client would."""
    app = pyworker.Celery("client", broker=address_of(path), set_as_current=False)
    app.conf.task_default_queue = "filed"
    for number in range(count):
        app.send_task("filed.note", (str(notes), str(number)))
    app.close()

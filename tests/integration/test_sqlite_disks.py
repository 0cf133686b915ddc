"""Disks on which a file cannot live: a worker says so before it takes a task, and goes on once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.kinds import Kind
from support.private_disk import FILLER, beside, full_disk, read_only_disk, seen_from_outside
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DISK_BYTES = 16 << 20
#: Answers as the kernel does for a folder on NFS. Nothing else of a network file system is needed to be refused.
ON_NFS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

int statfs(const char *path, struct statfs *status) {
    int (*real)(const char *, struct statfs *) = dlsym(RTLD_NEXT, "statfs");
    int result = real(path, status);
    if (result == 0 && strcmp(path, getenv("TEST_NFS_FOLDER")) == 0) status->f_type = 0x6969;
    return result;
}
"""


def worker_on(
    path: Path, library: str, *, prefix: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> WorkerProcess:
    kind = Kind("pyworker", (*prefix, sys.executable, "-m", "pyworker"), "fast")
    environment = {"TEST_LIBRARY": library, **(environment or {})}
    return WorkerProcess(kind, "filed", broker=f"sqlite:///{path}", options=("-c", "1"), environment=environment)


#: Sends a task in a process of its own, whose file is whole when it has ended.
SEND_NOTE = """
import sys, pyworker
database, *note = sys.argv[1:]
app = pyworker.Celery("client", broker=f"sqlite:///{database}", set_as_current=False)
app.conf.task_default_queue = "filed"
app.send_task("filed.note", note)
app.close()
"""


def send_note(database: Path, notes: Path, text: str, *, prefix: tuple[str, ...] = ()) -> None:
    command = [*prefix, sys.executable, "-c", SEND_NOTE, str(database), str(notes), text]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize("library", ["pyworker", "celery"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new file", "file with messages"])
def test_a_disk_that_is_full_at_the_start_is_told_and_waited_for(is_new: bool, library: str, tmp_path: Path) -> None:
    disk, seed, notes = tmp_path / "disk", tmp_path / "seed", tmp_path / "notes"
    disk.mkdir()
    seed.mkdir()
    if not is_new:
        send_note(seed / "queue.db", notes, "before")
    prefix = full_disk(disk, size_bytes=DISK_BYTES, seed=seed)
    worker = worker_on(disk / "queue.db", library, prefix=prefix)
    try:
        worker.start(is_ready=False)
        worker.wait_for_line(r"(?i)(disk.*full|no space left)", deadline_s=60)
        worker.wait_for_line(r"Trying again in", deadline_s=60)
        assert worker.is_running
        assert "received" not in worker.log
        assert "Traceback" not in worker.log
        mark = worker.mark()
        (seen_from_outside(disk, worker.pid) / FILLER).unlink()
        send_note(disk / "queue.db", notes, "after", prefix=beside(worker.pid))
        expected = ["after"] if is_new else ["before", "after"]
        eventually(lambda: notes.exists() and notes.read_text().split() == expected, deadline_s=60, what="all ran")
        worker.wait_for_line("succeeded", deadline_s=60, after=mark)
        assert worker.stop() == 0
    finally:
        worker.close()


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_a_read_only_folder_is_refused_at_start(library: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    refused(worker_on(disk / "queue.db", library, prefix=read_only_disk(disk)), "its folder is read-only for this user")


def test_a_network_file_system_is_refused_at_start(tmp_path: Path) -> None:
    source, library, folder = tmp_path / "on_nfs.c", tmp_path / "on_nfs.so", tmp_path / "shared"
    source.write_text(ON_NFS)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    folder.mkdir()
    environment = {"LD_PRELOAD": str(library), "TEST_NFS_FOLDER": str(folder)}
    refused(worker_on(folder / "queue.db", "pyworker", environment=environment), r"network file system \(NFS\)")
    assert list(folder.iterdir()) == []


def refused(worker: WorkerProcess, complaint: str) -> None:
    """The worker ends with the complaint, and has not taken a task."""
    try:
        worker.start(is_ready=False)
        worker.wait_for_line(complaint, deadline_s=60)
        assert worker.wait(deadline_s=60) != 0
        assert "ready." not in worker.log
        assert "Traceback" not in worker.log
    finally:
        worker.close()

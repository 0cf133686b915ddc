"""The pid file: made, refused, taken over, removed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyworker.worker.pidfile import Pidfile, PidfileLocked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.pid"


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_acquire_writes_the_process_id_and_release_removes_it(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()
    pidfile.release()
    assert not path.exists()


def test_acquire_refuses_in_celerys_words_when_the_process_lives(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(PidfileLocked) as caught:
        Pidfile(str(path)).acquire()
    assert str(caught.value) == (
        f"ERROR: Pidfile ({path}) already exists.\nSeems we're already running? (pid: {os.getppid()})"
    )


def test_release_leaves_the_file_of_another_worker(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    pidfile = Pidfile(str(path))
    with pytest.raises(PidfileLocked):
        pidfile.acquire()
    pidfile.release()
    assert path.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{dead}\n", "Stale pidfile exists - Removing it."),
        ("{dead}", "Broken pidfile found - Removing it."),
        ("worker\n", "Broken pidfile found - Removing it."),
        ("", "Broken pidfile found - Removing it."),
        ("{own}\n", ""),
    ],
)
def test_acquire_takes_over_a_useless_file(
    path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path.write_text(text.format(dead=dead_pid(), own=os.getpid()))
    pidfile = Pidfile(str(path))
    pidfile.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    assert capsys.readouterr().err.strip() == says
    pidfile.release()


def test_release_finds_the_file_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pidfile = Pidfile("worker.pid")
    pidfile.acquire()
    monkeypatch.chdir("/")
    pidfile.release()
    assert not (tmp_path / "worker.pid").exists()

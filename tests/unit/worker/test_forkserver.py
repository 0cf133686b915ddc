"""The fork server: who is whose parent, who outlives whom, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.processes import children_of, is_alive, open_descriptors
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("fork_parent.py")


class Parent:
    """The program of ``fork_parent.py``, asked from here."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.server_pid: int = self.ask("pids")["server"]

    def ask(self, *question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def zombies(self) -> list[int]:
        return [pid for pid in children_of(self.process.pid) if not is_alive(pid)]

    def end(self) -> str:
        self.process.kill()
        return self.process.communicate()[1]


@pytest.fixture
def parent() -> Iterator[Parent]:
    started = Parent()
    yield started
    started.end()


def test_child_is_the_parents_own_when_it_speaks(parent: Parent) -> None:
    pid = parent.ask("spawn", 3)
    portrait = parent.ask("portrait", 3)
    assert portrait["pid"] == pid
    assert portrait["index"] == 3
    assert portrait["parent"] == parent.process.pid


def test_child_starts_with_default_signals_and_no_foreign_descriptors(parent: Parent) -> None:
    parent.ask("spawn", 0)
    parent.ask("spawn", 1)
    portrait = parent.ask("portrait", 1)
    assert portrait["descriptors"] == []
    assert set(portrait["handlers"].values()) == {str(signal.SIG_DFL)}


def test_child_outlives_the_fork_server(parent: Parent) -> None:
    pid = parent.ask("spawn", 0)
    os.kill(parent.server_pid, signal.SIGKILL)
    assert parent.ask("wait", parent.server_pid) == -signal.SIGKILL
    assert parent.ask("portrait", 0)["pid"] == pid


def test_everybody_dies_with_the_parent(parent: Parent) -> None:
    parent.ask("spare")
    pids = [parent.server_pid, *(parent.ask("spawn", index) for index in range(3))]
    eventually(lambda: len(children_of(parent.process.pid)) == 5, what="server, spare and three children")
    pids += children_of(parent.process.pid)
    parent.process.kill()
    parent.process.wait()
    eventually(lambda: not any(is_alive(pid) for pid in pids), what="the end of all relatives")


def test_spare_takes_over_when_the_server_is_killed(parent: Parent) -> None:
    parent.ask("spare")
    first = parent.ask("spawn", 0)
    os.kill(parent.server_pid, signal.SIGKILL)
    parent.ask("wait", parent.server_pid)
    parent.ask("promote")
    parent.ask("spare")
    second = parent.ask("spawn", 1)
    assert {parent.ask("portrait", index)["pid"] for index in (0, 1)} == {first, second}
    assert parent.ask("portrait", 1)["parent"] == parent.process.pid
    assert parent.ask("portrait", 1)["descriptors"] == []


def test_server_exits_when_its_socket_closes(parent: Parent) -> None:
    pid = parent.ask("spawn", 0)
    parent.ask("close")
    assert parent.ask("wait", parent.server_pid) == 0
    assert is_alive(pid)


def test_children_leave_neither_zombies_nor_descriptors_behind(parent: Parent) -> None:
    parent.ask("spare")
    for _round in range(20):
        pid = parent.ask("spawn", 1)
        parent.ask("tell", 1, "exit 0")
        assert parent.ask("wait", pid) == 0
    # Standard streams and the command socket; its own copies of what it passed on close a moment later.
    eventually(lambda: open_descriptors(parent.server_pid) == 4, what="the server's copies closed")
    assert parent.zombies() == []
    assert children_of(parent.server_pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_the_process_group_spare_the_server(parent: Parent, number: signal.Signals) -> None:
    os.kill(parent.server_pid, number)
    assert parent.ask("spawn", 0) > 0


def test_exit_code_of_the_child_is_what_its_main_returns(parent: Parent) -> None:
    pid = parent.ask("spawn", 0)
    parent.ask("tell", 0, "exit 7")
    assert parent.ask("wait", pid) == 7


def test_failing_child_shows_its_traceback_and_exits_with_70(parent: Parent) -> None:
    pid = parent.ask("spawn", 0)
    parent.ask("tell", 0, "raise")
    assert parent.ask("wait", pid) == 70
    assert "the child's main function failed" in parent.end()


def test_server_ends_loudly_when_the_command_is_unknown(parent: Parent) -> None:
    parent.ask("say", "dance 1\n")
    assert parent.ask("wait", parent.server_pid) == 1
    assert "not a command: b'dance 1" in parent.end()

"""Folders of ``memory://`` files: those of killed processes go at the next start, those in use stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from pyworker.transport.memory_folder import make_memory_folder
from support.processes import is_alive
from support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

#: Makes a folder, says its name and the number of a child of its own, and waits for the end of its input.
OWNER = """
import os, sys
from pathlib import Path
from pyworker.transport.memory_folder import make_memory_folder
folder = make_memory_folder(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    os.read(0, 1)
    os._exit(0)
print(folder, child, flush=True)
os.read(0, 1)
os._exit(0)
"""


def test_folders_of_killed_processes_are_removed_at_the_next_start(tmp_path: Path) -> None:
    foreign = tmp_path / "pyworker-memory-notes"
    foreign.mkdir()
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, child = owner.stdout.readline().split()
        assert os.path.dirname(folder) == str(tmp_path)
        make_memory_folder(tmp_path)
        assert os.path.isdir(folder), "its owner lives"
        owner.kill()
        owner.wait()
        make_memory_folder(tmp_path)
        assert os.path.isdir(folder), "a child of its owner lives"
        os.kill(int(child), signal.SIGKILL)
        eventually(lambda: not is_alive(int(child)), deadline_s=60, what="the child is gone")
        make_memory_folder(tmp_path)
        assert not os.path.exists(folder)
    assert foreign.is_dir()


def test_a_folder_goes_with_its_process(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from pyworker.transport.memory_folder import make_memory_folder\n"
    code += "print(make_memory_folder(Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []

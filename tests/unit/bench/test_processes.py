"""CPU time and memory of a tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from pyworker.bench import processes

_BURN = "import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass\n"
_WAIT = "print(flush=True); import sys; sys.stdin.read()"


def test_cpu_seconds_counts_living_and_reaped_processes() -> None:
    before = processes.cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", _BURN], check=True)
    after_reaped = processes.cpu_seconds(os.getpid())
    assert after_reaped - before >= 0.04
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert processes.cpu_seconds(os.getpid()) - after_reaped >= 0.049


def test_tree_and_memory_see_a_child_and_its_child() -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_WAIT!r}])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        found = processes.tree(child.pid)
        assert found[0] == child.pid
        assert len(found) == 2
        memory = processes.memory(child.pid)
        assert [item.pid for item in memory] == found
        assert all(0 < item.private <= item.pss <= item.rss for item in memory)
        child.stdin.close()
    assert processes.tree(child.pid) == [child.pid]

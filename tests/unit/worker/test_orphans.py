"""Reaping of zombies that nobody waits for."""

from __future__ import annotations

import os
import subprocess

from pyworker.worker.orphans import OrphanReaper, zombie_children
from support.waiting import eventually


def make_zombie() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["true"])
    eventually(lambda: process.pid in zombie_children(), what="the zombie")
    return process


def test_zombie_is_reaped_after_the_grace_period_only() -> None:
    time_s = [0.0]
    reaper = OrphanReaper(lambda: time_s[0], grace_s=30.0)
    zombie = make_zombie()
    assert reaper.sweep(()) == []
    time_s[0] = 29.9
    assert reaper.sweep(()) == []
    time_s[0] = 30.0
    assert reaper.sweep(()) == [zombie.pid]
    assert zombie.pid not in zombie_children()
    zombie.wait()


def test_zombies_of_the_pool_are_left_to_the_engine() -> None:
    time_s = [0.0]
    reaper = OrphanReaper(lambda: time_s[0], grace_s=30.0)
    zombie = make_zombie()
    reaper.sweep((zombie.pid,))
    time_s[0] = 100.0
    assert reaper.sweep((zombie.pid,)) == []
    assert os.waitpid(zombie.pid, 0)[0] == zombie.pid
    zombie.wait()

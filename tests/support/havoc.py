"""Breaks things at random while a test's tasks run: kills, cut connections, restarted servers."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import redis

from support.processes import children_of, is_alive

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from support.stage import Stage


def kill_quietly(pid: int) -> bool:
    """SIGKILL a process that may be gone already; tells whether it lived."""
    if not is_alive(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Havoc:
    """Random destruction on one stage with one worker.

    Args:
        stage: what to break.
        randomness: seeded by the test.
    """

    def __init__(self, stage: Stage, randomness: random.Random) -> None:
        self._stage = stage
        self._randomness = randomness
        #: How often each action was done.
        self.tally: dict[str, int] = {}

    def do(self, action: str) -> None:
        """Do one action by name and count it."""
        actions: dict[str, Callable[[], bool]] = {
            "kill child": self._kill_child,
            "kill fork server": self._kill_fork_server,
            "kill parent": self._kill_parent,
            "cut connections": self._cut_connections,
            "restart server": self._restart_server,
        }
        if not self._stage.worker.is_running:
            # It may end with an error when it can fork no more: its supervisor starts it anew.
            self._stage.new_worker().start()
            self.tally["started anew"] = self.tally.get("started anew", 0) + 1
        if actions[action]():
            self.tally[action] = self.tally.get(action, 0) + 1

    def pool_children(self) -> list[int]:
        """Return the processes that announced themselves as running tasks (see ``apps/impatient.py``)."""
        known = {int(pid) for pid in self._stage.notes.smembers("pool-children")}
        return [pid for pid in children_of(self._stage.worker.pid) if pid in known and is_alive(pid)]

    def fork_servers(self) -> list[int]:
        """Return the helpers of the main process that run no tasks."""
        pool = set(self.pool_children())
        return [pid for pid in children_of(self._stage.worker.pid) if pid not in pool and is_alive(pid)]

    def _kill_child(self) -> bool:
        children = self.pool_children()
        return bool(children) and kill_quietly(self._randomness.choice(children))

    def _kill_fork_server(self) -> bool:
        helpers = self.fork_servers()
        return bool(helpers) and kill_quietly(self._randomness.choice(helpers))

    def _kill_parent(self) -> bool:
        """Kill the main process, or all of the worker, and start another worker."""
        worker = self._stage.worker
        if self._randomness.random() < 0.5:
            worker.kill()
        else:
            worker.kill_all()
        self._stage.new_worker().start()
        return True

    def _cut_connections(self) -> bool:
        client = self._stage.redis
        try:
            own = client.client_id()
            others = [entry["id"] for entry in client.client_list() if int(entry["id"]) != own]
            for identity in others:
                client.client_kill_filter(_id=identity)
        except redis.RedisError:
            return False
        return bool(others)

    def _restart_server(self) -> bool:
        self._stage.server.restart(kill=self._randomness.random() < 0.5)
        return True

    def run(self, actions: Sequence[str], *, rounds: int, pause_s: tuple[float, float]) -> None:
        """Do ``rounds`` random actions with random pauses: the rhythm of the test, no wait."""
        rest = threading.Event()
        for _ in range(rounds):
            rest.wait(self._randomness.uniform(*pause_s))
            self.do(self._randomness.choice(actions))


#: Publishes between two looks at what waits.
_LOOK_EVERY = 100


class Publisher:
    """Publishes numbered tasks from a thread of its own and remembers which publishes were acknowledged.

    Args:
        stage: where to.
        task: what is published.
        name: the tasks' first argument; the number and ``options`` follow.
        total: how many at most.
        most_waiting: publish no further while so many wait; what waits at the end has to be worked off.
    """

    def __init__(
        self, stage: Stage, task: Any, name: str, total: int, *options: Any, most_waiting: int | None = None
    ) -> None:
        self._stage = stage
        self._task = task
        self._name = name
        self._total = total
        self._options = options
        self._most_waiting = most_waiting
        self.acknowledged: set[str] = set()
        #: Publishes that failed: they may have arrived or not.
        self.uncertain: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"publisher of {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the publish in progress."""
        self._stopping.set()

    def join(self, deadline_s: float) -> None:
        """Wait until everything is published."""
        self._thread.join(deadline_s)
        assert not self._thread.is_alive(), f"publisher of {self._name} hangs"

    def _wait_for_room(self) -> None:
        most = self._most_waiting
        while most is not None and not self._stopping.is_set() and self._stage.queue_length() >= most:
            self._stopping.wait(0.05)

    def _run(self) -> None:
        for number in range(self._total):
            if number % _LOOK_EVERY == 0:
                self._wait_for_room()
            if self._stopping.is_set():
                return
            member = str(number)
            try:
                self._task.apply_async(
                    (self._name, member, *self._options), ignore_result=True, retry=False, expires=None
                )
            except Exception:  # any refusal leaves it open whether the message arrived
                self.uncertain.add(member)
                self._stopping.wait(0.05)
            else:
                self.acknowledged.add(member)

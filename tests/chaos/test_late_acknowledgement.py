"""Late acks while everything is killed at random: executed = acknowledged publishes, nothing hangs, nothing grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support.havoc import Havoc, Publisher
from support.processes import open_descriptors, thread_count
from support.redis_server import RedisServer
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    import random

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    tasks: int
    rounds: int

    @property
    def deadline_s(self) -> float:
        """For publishing or running all of them on a machine that is busy with other things."""
        return 120 + self.tasks / 10


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    """A bounded short form by default, the long one with ``--chaos-long``."""
    if not request.config.getoption("--chaos-long"):
        return Size(tasks=600, rounds=12)
    share = request.config.getoption("--chaos-share")
    return Size(tasks=int(20_000 * share), rounds=int(200 * share))


def executions(stage: Stage, name: str) -> dict[str, int]:
    return {member: int(count) for member, count in stage.notes.hgetall(f"executions:{name}").items()}


def wait_until_all_ran(stage: Stage, publisher: Publisher, name: str, *, deadline_s: float) -> dict[str, int]:
    """Wait until every acknowledged publish ran and the queue is empty; returns the executions."""

    def complete() -> bool:
        if not stage.worker.is_running:
            # It may give up when it can fork no more, for its supervisor to start it anew; it may not hang.
            print(f"worker ended with {stage.worker.wait()}")
            stage.new_worker().start()
        missing = publisher.acknowledged - set(executions(stage, name))
        assert not missing, f"{len(missing)} missing, for example {sorted(missing)[:5]}"
        return True

    eventually(complete, deadline_s=deadline_s, what=f"all acknowledged publishes of {name} ran")
    stage.wait_until_drained(deadline_s=60)
    done = executions(stage, name)
    assert set(done) <= publisher.acknowledged | publisher.uncertain
    repeats = sum(count - 1 for count in done.values())
    print(f"{len(done)} executed, {len(publisher.uncertain)} uncertain publishes, {repeats} repeats")
    return done


@pytest.mark.parametrize(
    "actions",
    [
        ("kill child",),
        ("kill fork server",),
        ("cut connections",),
        ("kill parent",),
        ("kill child", "kill fork server", "cut connections"),
    ],
    ids=lambda actions: "+".join(action.replace(" ", "-") for action in actions),
)
def test_every_acknowledged_task_runs(
    kind: Kind, size: Size, actions: tuple[str, ...], randomness: random.Random
) -> None:
    """The server lives; the worker's processes and connections do not."""
    with Stage(kind, "impatient", options=("-c", "3"), has_notebook=True) as stage:
        havoc = Havoc(stage, randomness)
        eventually(lambda: len(havoc.pool_children()) == 3, what="three children announced")
        publisher = Publisher(stage, stage.tasks.count_surely_busy, "sure", size.tasks, 0.005)
        publisher.start()
        rounds = size.rounds // 3 if "kill parent" in actions else size.rounds
        havoc.run(actions, rounds=rounds, pause_s=(0.05, 0.4))
        publisher.join(deadline_s=size.deadline_s)
        done = wait_until_all_ran(stage, publisher, "sure", deadline_s=size.deadline_s)
        print(havoc.tally)
        assert havoc.tally, "nothing was broken"
        # Repeats: at most what ran or was about to be acknowledged at each blow.
        repeats = sum(count - 1 for count in done.values())
        assert repeats <= 60 * sum(havoc.tally.values()) + len(publisher.uncertain)


def test_every_acknowledged_task_runs_when_the_server_restarts(
    kind: Kind, size: Size, randomness: random.Random
) -> None:
    """Redis with appendfsync always: what it acknowledged it has after a restart, and then it runs."""
    with (
        RedisServer(appendonly="yes", appendfsync="always") as server,
        Stage(kind, "impatient", options=("-c", "2"), server=server, has_notebook=True) as stage,
    ):
        havoc = Havoc(stage, randomness)
        publisher = Publisher(stage, stage.tasks.count_surely_busy, "durable", size.tasks, 0.005)
        publisher.start()
        havoc.run(("restart server",), rounds=max(2, size.rounds // 6), pause_s=(0.5, 1.5))
        publisher.join(deadline_s=2 * size.deadline_s)
        wait_until_all_ran(stage, publisher, "durable", deadline_s=size.deadline_s)
        assert stage.worker.is_running
        assert publisher.acknowledged


def test_running_tasks_survive_the_fork_servers_death(kind: Kind, randomness: random.Random) -> None:
    with Stage(kind, "impatient", options=("-c", "2"), has_notebook=True) as stage:
        havoc = Havoc(stage, randomness)
        results = [stage.tasks.gated_late.delay("survivors", number) for number in range(2)]
        entries = stage.wait_for_journal("survivors", 2)
        complete = len(havoc.fork_servers())
        assert complete, "no helper process found"
        # One after the other, whichever it hits: the server or its spare. Each time both are there again soon.
        for _ in range(4):
            before = set(havoc.fork_servers())
            havoc.do("kill fork server")
            eventually(
                lambda before=before: (
                    len(set(havoc.fork_servers()) - before) >= 1  # type: ignore[misc]
                    and len(havoc.fork_servers()) == complete
                ),
                what="the killed fork server is replaced",
            )
        stage.open_gate("survivors", 2)
        assert [result.get(timeout=20) for result in results] == [0, 1]
        assert len(stage.journal("survivors")) == 2
        # A child that dies afterwards is replaced all the same.
        havoc.do("kill child")
        later = [stage.tasks.gated_late.delay("later", number) for number in range(2)]
        again = stage.wait_for_journal("later", 2, deadline_s=30)
        assert len({entry["pid"] for entry in again}) == 2
        assert {entry["pid"] for entry in entries} != {entry["pid"] for entry in again}
        stage.open_gate("later", 2)
        assert [result.get(timeout=20) for result in later] == [0, 1]


def test_nothing_grows_under_kills(kind: Kind, size: Size, randomness: random.Random) -> None:
    """Descriptors, threads and keys without expiry are after many kills what they were after the first."""
    with Stage(kind, "impatient", options=("-c", "3"), has_notebook=True) as stage:
        havoc = Havoc(stage, randomness)
        actions = ("kill child", "kill fork server", "cut connections")

        def settle(label: str) -> tuple[int, int, set[str]]:
            for number in range(30):
                stage.tasks.count_surely.apply_async((label, str(number)), ignore_result=True)
            eventually(lambda: len(executions(stage, label)) == 30, deadline_s=40, what=f"{label} ran")
            stage.wait_until_drained(deadline_s=40)

            def is_whole() -> bool:
                # A place whose children died early again and again waits up to 10 s for the next one.
                children = havoc.pool_children()
                assert len(children) == 3, f"children {children}, other helpers {havoc.fork_servers()}, {havoc.tally}"
                return True

            eventually(is_whole, deadline_s=60, what="three children")
            pid = stage.worker.pid
            return open_descriptors(pid), thread_count(pid), stage.server.keys_without_expiry()

        for action in actions:
            havoc.do(action)
        first = settle("first")
        for _ in range(max(1, size.rounds // 12)):
            havoc.run(actions, rounds=10, pause_s=(0.05, 0.3))
            settle(f"round {_}")
        last = settle("last")
        print(f"descriptors {first[0]} -> {last[0]}, threads {first[1]} -> {last[1]}, {havoc.tally}")
        assert last[0] <= first[0] + 4
        assert last[1] <= first[1] + 1
        grown = {name for name in last[2] - first[2] if not name.startswith("executions:")}
        assert {name for name in grown if not name.startswith(("journal:", "shares:"))} == set()

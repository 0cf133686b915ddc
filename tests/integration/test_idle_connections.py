"""How many connections an idle node keeps: three to its broker at most, whatever it listens to and tells.

Four to a Redis that is spoken to in RESP2, as redis-py before 8 does: what listens cannot ask there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis.connection

from support.event_recorder import Recorder
from support.kinds import Kind
from support.processes import local_ports
from support.rabbitmq_stage import RabbitmqStage
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.worker import WorkerProcess

_MOST = {"3": 3, "2": 4}
#: What this redis-py speaks by itself.
_OWN = str(getattr(redis.connection, "DEFAULT_RESP_VERSION", 2))
_KIND = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
_EVERYTHING = ("-c", "2", "-E", "--probes", "0")
_NOTHING = ("-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat")


def use(stage: Stage) -> None:
    """Have the node run a task, tell of it and answer a command: what is opened when it is needed is open then."""
    with Recorder(stage.app) as recorder:
        result = stage.tasks.add.delay(20, 22)
        assert result.get(timeout=60) == 42
        assert stage.app.control.ping(timeout=60, limit=1)
        if "-E" in stage.worker.description:
            recorder.wait_for("task-succeeded", uuid=result.id)


def connections(worker: WorkerProcess, port: int, most: int) -> list[int]:
    """Return the node's ends of its connections to a server, once they are few enough."""

    def few() -> list[int]:
        found = local_ports(worker.family(), port)
        assert 0 < len(found) <= most, f"{len(found)} connections"
        return found

    return eventually(few, deadline_s=60, what=f"{most} connections at most")


@pytest.mark.parametrize("library", ["celery", "pyworker"])
@pytest.mark.parametrize(
    ("options", "protocol"),
    [(_EVERYTHING, _OWN), (_NOTHING, _OWN), (_EVERYTHING, "2")],
    ids=["telling everything", "telling nothing", "telling everything in RESP2"],
)
def test_on_redis_where_results_are_too(library: str, options: tuple[str, ...], protocol: str) -> None:
    """One that fetches, one that stores results, one for everything else; there, in RESP2, one that listens."""
    environment = {"TEST_LIBRARY": library, "TEST_REDIS_PROTOCOL": protocol}
    with Stage(_KIND, "either", options=options, environment=environment) as stage:
        # Twice: what was opened for a moment has to go again.
        for _ in range(2):
            use(stage)
            ports = connections(stage.worker, stage.server.port, _MOST[protocol])
            assert not local_ports(stage.worker.family()[1:], stage.server.port), "a child holds a connection"
            assert set(ports) <= {int(entry["addr"].rpartition(":")[2]) for entry in stage.redis.client_list()}


def test_of_a_node_with_neighbours() -> None:
    """Who asked others for what they know has hung up."""
    with Stage(_KIND, "either", options=("-c", "1"), environment={"TEST_LIBRARY": "celery"}) as stage:
        second = stage.new_worker(options=("-c", "1", "-n", "second@%h")).start()
        second.wait_for_line("mingle: sync with 1 nodes", deadline_s=60)
        for worker in (stage.worker, second):
            connections(worker, stage.server.port, _MOST[_OWN])


@pytest.mark.slow
@pytest.mark.xdist_group("rabbitmq")
@pytest.mark.parametrize("library", ["celery", "pyworker"])
def test_on_rabbitmq(library: str) -> None:
    """One that consumes, one for everything else."""
    with RabbitmqStage(_KIND, "either", options=_EVERYTHING, environment={"TEST_LIBRARY": library}) as stage:
        port = urlsplit(stage.host.url).port
        assert port
        for _ in range(2):
            use(stage)
            connections(stage.worker, port, 2)

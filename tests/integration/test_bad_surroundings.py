"""Bad surroundings: wrong password, full or read-only server, apps and options that cannot be used."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.redis_server import RedisServer
from support.stage import Stage
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")


@pytest.mark.control
def test_wrong_password_is_told_and_retried(kind: Kind) -> None:
    with RedisServer(requirepass="right-password") as server:
        worker = WorkerProcess(kind, "tasks", broker=server.url_with("wrong-password"), options=("-c", "1"))
        try:
            worker.start(is_ready=False)
            worker.wait_for_line(
                r"ERROR/MainProcess\] consumer: Cannot connect to redis://:\*\*@127\.0\.0\.1:\d+/0: .*"
                r"(invalid username-password pair|WRONGPASS|invalid password)",
                deadline_s=30,
            )
            assert "wrong-password" not in worker.log
            assert worker.is_running
            # The operator puts the password right; no restart is needed.
            server.client.config_set("requirepass", "wrong-password")
            worker.wait_for_line(r"ready\.$", deadline_s=60)
        finally:
            worker.close()


@pytest.mark.control
def test_missing_password_is_told(kind: Kind) -> None:
    with RedisServer(requirepass="needed") as server:
        worker = WorkerProcess(kind, "tasks", broker=server.url_with(""), options=("-c", "1"))
        try:
            worker.start(is_ready=False)
            worker.wait_for_line(r"Cannot connect to redis://.*[Aa]uthentication required", deadline_s=30)
        finally:
            worker.close()


@pytest.mark.control
def test_server_that_is_not_there_is_waited_for(kind: Kind) -> None:
    server = RedisServer()
    try:
        worker = WorkerProcess(kind, "tasks", broker=server.url, options=("-c", "1"))
        try:
            worker.start(is_ready=False)
            worker.wait_for_line(
                rf"ERROR/MainProcess\] consumer: Cannot connect to redis://(:\*\*@)?127\.0\.0\.1:{server.port}/0: .*",
                deadline_s=30,
            )
            worker.wait_for_line(r"Trying again in \d+\.\d\d seconds\.\.\. \(1/100\)", deadline_s=30)
            server.start()
            worker.wait_for_line(r"ready\.$", deadline_s=60)
        finally:
            worker.close()
    finally:
        server.close()


@pytest.mark.lanes("fast", "library")
def test_full_server_loses_no_late_task(kind: Kind) -> None:
    """Every write is refused with OOM for a while; what was queued runs, and every result is there in the end."""
    with (
        RedisServer(maxmemory_policy="noeviction") as server,
        Stage(kind, server=server, has_notebook=True) as stage,
    ):
        results = [stage.tasks.add.delay(number, 1) for number in range(5)]
        assert [result.get(timeout=20) for result in results] == list(range(1, 6))
        assert stage.worker.stop() == 0
        queued = [stage.tasks.count_late.apply_async(("full", str(number))) for number in range(20)]
        stage.redis.config_set("maxmemory", "1mb")
        worker = stage.new_worker().start(is_ready=False)
        worker.wait_for_line(r"WARNING/MainProcess\] Result store refuses writes: .*OOM", deadline_s=40)
        assert worker.is_running
        stage.redis.config_set("maxmemory", "0")
        for result in queued:
            result.get(timeout=90)
        counts = stage.notes.hgetall("executions:full")
        assert set(counts) == {str(number) for number in range(20)}
        stage.wait_until_drained(deadline_s=60)


def test_read_only_replica_is_told_and_survived(kind: Kind) -> None:
    with RedisServer() as primary, RedisServer(replica_of=primary) as replica:
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
        worker = WorkerProcess(kind, "tasks", broker=replica.url, options=("-c", "1"))
        try:
            worker.start(is_ready=False)
            worker.wait_for_line(r"(?i)(read.?only|READONLY)", deadline_s=40)
            assert worker.is_running
            # The replica is promoted: the worker goes on by itself.
            replica.client.replicaof("NO", "ONE")
            with Stage(kind, server=replica) as stage:
                assert stage.tasks.add.delay(1, 1).get(timeout=60) == 2
            worker.wait_for_line(r"ready\.$", deadline_s=60)
        finally:
            worker.close()


@pytest.mark.control
@pytest.mark.parametrize(
    ("app", "text"),
    [
        ("no_such_module_here", r"no_such_module_here"),
        ("broken_import", r"(ZeroDivisionError|division by zero)"),
        ("app_missing", r"app_missing"),
        ("tasks:no_such_app", r"no_such_app"),
    ],
)
def test_app_that_cannot_be_loaded_is_named(kind: Kind, server: RedisServer, app: str, text: str) -> None:
    worker = WorkerProcess(kind, app, broker=server.url)
    try:
        worker.start(is_ready=False)
        code = worker.wait(deadline_s=30)
        assert code != 0
        worker.wait_for_line(text, deadline_s=1)
        assert not any("ready." in line for line in worker.lines)
    finally:
        worker.close()


@pytest.mark.control
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-c", "many"), r"Invalid value for .*-c.*'many'"),
        (("-l", "LOUD"), r"Invalid value for .*-l"),
        (("-P", "nobody"), r"Invalid value for .*-P"),
        (("--max-tasks-per-child", "few"), r"Invalid value for .*--max-tasks-per-child"),
        (("--time-limit", "soon"), r"Invalid value for .*--time-limit"),
        (("--no-such-option",), r"No such option"),
        (("--prefetch-multiplier", "x"), r"Invalid value for .*--prefetch-multiplier"),
    ],
)
def test_option_that_cannot_be_used_is_named(
    kind: Kind, server: RedisServer, options: tuple[str, ...], text: str
) -> None:
    worker = WorkerProcess(kind, "tasks", broker=server.url, options=options)
    try:
        worker.start(is_ready=False)
        assert worker.wait(deadline_s=30) == 2
        worker.wait_for_line(text, deadline_s=1)
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-c", "-3"), r"(?i)concurrency"),
        (("--max-tasks-per-child", "-1"), r"(?i)max.tasks.per.child"),
        (("--autoscale", "few"), r"(?i)autoscale"),
        (("-B",), r"(?i)beat"),
        (("-P", "eventlet"), r"(?i)(eventlet|pool)"),
        (("--pidfile", "/nowhere/pid"), r"Invalid value for --pidfile: '/nowhere/pid': No such file"),
        (("-f", "/nowhere/log"), r"Invalid value for -f/--logfile: '/nowhere/log': No such file"),
        (("-S", "/nowhere/state"), r"Invalid value for -S/--statedb: '/nowhere/state.*': No such file"),
        (("-Q", "some", "-X", "some"), r"Error: queues: at least one queue is needed"),
    ],
)
def test_option_out_of_range_or_without_effect_is_refused(
    kind: Kind, server: RedisServer, options: tuple[str, ...], text: str
) -> None:
    worker = WorkerProcess(kind, "tasks", broker=server.url, options=options)
    try:
        worker.start(is_ready=False)
        assert worker.wait(deadline_s=30) != 0
        worker.wait_for_line(text, deadline_s=1)
        assert "Traceback" not in worker.log
    finally:
        worker.close()


def test_queue_key_of_another_type_is_told(kind: Kind, server: RedisServer) -> None:
    """A string where the queue's list should be: an error naming it, and the worker recovers when it is gone."""
    server.client.set("celery", "no list")
    stage = Stage(kind, server=server).open(has_worker=False)
    try:
        worker = stage.new_worker().start(is_ready=False)
        worker.wait_for_line(r"(WRONGTYPE|wrong kind of value|wrong type)", deadline_s=30)
        server.client.delete("celery")
        assert stage.tasks.add.delay(1, 1).get(timeout=60) == 2
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    finally:
        stage.close()


@pytest.mark.control
def test_children_that_never_start_end_the_worker_with_an_error(kind: Kind) -> None:
    stage = Stage(kind, "stillborn").open(has_worker=False)
    try:
        waiting = stage.tasks.add.delay(1, 1)
        worker = stage.new_worker().start(is_ready=False)
        worker.wait_for_line(r"Process 'ForkPoolWorker-1' pid:\d+ exited with 'exitcode 3'", deadline_s=40)
        worker.wait_for_line(
            r"CRITICAL/MainProcess\] Unrecoverable error: WorkerLostError\('Could not start worker processes'\)",
            deadline_s=60,
        )
        assert worker.wait() == 1
        assert not waiting.ready()
        # Nobody started it, so it is still for everybody.
        assert stage.queue_length() == 1
    finally:
        stage.close()


def test_children_that_start_at_last_work(kind: Kind, tmp_path: Path) -> None:
    healed = tmp_path / "healed"
    stage = Stage(kind, "stillborn", environment={"TEST_HEALED_FILE": str(healed)}).open(has_worker=False)
    try:
        result = stage.tasks.add.delay(1, 1)
        worker = stage.new_worker().start(is_ready=False)
        worker.wait_for_line(r"exited with 'exitcode 3'", deadline_s=40)
        healed.touch()
        assert result.get(timeout=40) == 2
        assert worker.stop() == 0
    finally:
        stage.close()

"""The operator's commands: what ``pyworker`` prints and how it exits is what ``celery`` prints and how that exits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.command_line_runner import Ran, run_lines
from support.kinds import Kind
from support.redis_server import RedisServer
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.stage import Stage

pytestmark = pytest.mark.lanes("fast")

#: Numbers and addresses that differ from one moment to the next.
_VOLATILE = re.compile(r"\b\d+(\.\d+)?\b|0x[0-9a-f]+")


def programs(stage: Stage, lines: Sequence[Sequence[str]]) -> list[tuple[Ran, Ran]]:
    """Run command lines with both programs: pairs of what Celery's and what ours did."""
    environment = environment_of(stage)
    whole = [["-A", "tasks", *line] for line in lines]
    stock, ours = (
        run_lines(program, whole, environment=environment, directory=APPS) for program in ("celery", "pyworker")
    )
    return list(zip(stock, ours))


def environment_of(stage: Stage) -> dict[str, str]:
    """The environment of commands on the stage's application."""
    return worker_environment(broker=stage.server.url, backend=stage.server.url, lane="producer", extra={})


#: Asked of the one worker, which is then not waited for longer than it takes: printed alike to the letter.
EXACT = (
    "status", "status -j", "inspect ping", "inspect ping --json", "-q inspect ping", "inspect active",
    "inspect reserved --json", "inspect registered", "inspect registered rate_limit serializer",
    "inspect active_queues", "inspect query_task no-such-id", "inspect conf yes", "control revoke some-id",
    "inspect --list", "control --list", "list bindings", "purge -f -Q empty",
    "-C inspect query_task no-such-id",
    "amqp exchange.declare shell-exchange direct", "amqp queue.declare shell-queue",
    "amqp queue.bind shell-queue shell-exchange key", "amqp queue.purge shell-queue", "amqp basic.get shell-queue",
    "amqp queue.delete shell-queue",
)  # fmt: skip
#: Alike but for numbers.
COUNTED = ("inspect stats --json", "inspect clock")
#: End with the same exit code.
WRONG = (
    "status -d nobody@nowhere -t 0.2", "inspect ping -d nobody@nowhere -t 0.2", "inspect no_such_command",
    "control heartbeat -d nobody@nowhere -t 0.2", "control ping", "inspect", "call tasks.add -a {}",
    "call tasks.add -a [1", "call tasks.add --eta tomorrow", "migrate redis://", "logtool nonsense", "list nonsense",
    "no_such_command", "purge -Q celery", "status --no-such-option", "-A no_such_app status",
)  # fmt: skip
CALL = "call tasks.add -a [40,2] --expires 60 --queue celery"


@pytest.fixture(scope="module")
def ran(stage: Stage) -> dict[str, tuple[Ran, Ran]]:
    """What both programs did with every line above."""
    stage.tasks.add.delay(1, 1).get(timeout=30)
    stage.tasks.add.apply_async((1, 2), countdown=600, task_id="waits-long")
    to = ["-d", stage.worker.node_name, "-t", "10"]
    lines = [*EXACT, *COUNTED, *WRONG, CALL]
    asks = re.compile(r"\b(status|inspect [a-z]|control [a-z])")
    words = [[*line.split(), *(to if asks.search(line) and line not in WRONG else ())] for line in lines]
    return dict(zip(lines, programs(stage, words)))


@pytest.mark.parametrize("line", EXACT)
def test_output_is_celerys(ran: dict[str, tuple[Ran, Ran]], line: str) -> None:
    stock, ours = ran[line]
    assert ours == stock
    assert ours.output


@pytest.mark.parametrize("line", COUNTED)
def test_figures_are_celerys_but_for_the_numbers(ran: dict[str, tuple[Ran, Ran]], line: str) -> None:
    stock, ours = ran[line]
    assert ours.exit_code == stock.exit_code == 0
    if "--json" in line:
        assert shape(json.loads(ours.output)) == shape(json.loads(stock.output))
    else:
        assert _VOLATILE.sub("N", ours.output) == _VOLATILE.sub("N", stock.output)


def shape(value: Any) -> Any:
    """A document with types in the place of values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("line", WRONG)
def test_error_has_celerys_exit_code(ran: dict[str, tuple[Ran, Ran]], line: str) -> None:
    stock, ours = ran[line]
    assert ours.exit_code == stock.exit_code != 0
    if line.startswith(("status -d", "inspect no", "inspect ping", "control")):
        assert ours.errors.splitlines()[-1] == stock.errors.splitlines()[-1]


def test_task_is_called_and_its_result_is_printed(stage: Stage, ran: dict[str, tuple[Ran, Ran]]) -> None:
    ids = [each.output.strip() for each in ran[CALL]]
    assert len(set(ids)) == 2
    failed = stage.tasks.raising.delay()
    failed.get(propagate=False, timeout=20)
    lines = [["result", ids[0]], ["result", "-t", "tasks.add", ids[1]], ["result", "--traceback", failed.id]]
    pairs = programs(stage, [*lines, ["result", failed.id]])
    for stock, ours in pairs[:-1]:
        assert ours == stock
    assert [pair[0].output for pair in pairs[:2]] == ["42\n", "42\n"]
    assert pairs[-1][0].exit_code == pairs[-1][1].exit_code == 1


def test_broker_shell_holds_a_conversation(stage: Stage) -> None:
    session = "queue.declare talk\nbasic.publish 'good day' '' talk\nbasic.get talk 1\nnonsense\nhelp\nquit\n"
    environment = environment_of(stage)
    talk = subprocess.run(
        [sys.executable, "-m", "pyworker", "-A", "tasks", "amqp"],
        input=session, capture_output=True, text=True, env=environment, cwd=APPS, timeout=60, check=False,
    )  # fmt: skip
    assert talk.returncode == 0, talk.stderr
    assert "queue:talk messages:0" in talk.stdout
    assert "good day" in talk.stdout
    assert "No such command 'nonsense'" in talk.stderr


def test_waiting_tasks_move_to_another_broker_or_go(stage: Stage) -> None:
    for number in range(4):
        stage.tasks.add.apply_async((number, 1), queue="to-move", priority=number)
    environment = environment_of(stage)
    with RedisServer() as other:
        move = [
            "-A",
            "tasks",
            "migrate",
            "-t",
            "0.5",
            "-Q",
            "to-move:moved",
            "-T",
            "tasks.add",
            stage.server.url,
            other.url,
        ]
        [copied] = run_lines("pyworker", [[*move[:-2], "-n", "3", *move[-2:]]], environment=environment, directory=APPS)
        assert copied.exit_code == 0, copied.errors
        assert [line.split(":")[0] for line in copied.output.splitlines()] == [
            f"Migrating task {n}/4" for n in (1, 2, 3)
        ]
        assert stage.queue_length("to-move") == 4
        other.client.flushall()
        lines = [[*move[:-2], "-a", *move[-2:]], ["-A", "tasks", "purge", "-f", "-Q", "to-purge,empty"]]
        for number in range(2):
            stage.tasks.add.apply_async((number, 1), queue="to-purge")
        moved, purged = run_lines("pyworker", lines, environment=environment, directory=APPS)
        assert purged.output == "Purged 2 messages from 2 known task queues.\n"
        assert moved.exit_code == 0, moved.errors
        assert stage.queue_length("to-move") == 0
        names = ("moved", *(f"moved\x06\x16{step}" for step in (3, 6, 9)))
        bodies = [json.loads(raw) for name in names for raw in other.client.lrange(name, 0, -1)]
        assert len(bodies) == 4
        assert {body["headers"]["task"] for body in bodies} == {"tasks.add"}
        assert {body["properties"]["delivery_info"]["routing_key"] for body in bodies} == {"moved"}


# -- our own application


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[WorkerProcess, dict[str, str]]]:
    """A worker of our own application, and the environment of commands on it, without celery."""
    extra = {"TEST_LIBRARY": "pyworker", "TEST_WITHOUT_CELERY": "1"}
    kind = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")
    with (
        RedisServer() as server,
        WorkerProcess(kind, "own_api", broker=server.url, environment=extra) as worker,
    ):
        yield worker, worker_environment(broker=server.url, backend=server.url, lane="producer", extra=extra)


def test_commands_work_on_an_application_of_our_own(own: tuple[WorkerProcess, dict[str, str]]) -> None:
    worker, environment = own
    to = ["-d", worker.node_name, "-t", "10"]
    lines: list[list[str]] = [
        ["status", *to],
        ["inspect", "ping", *to, "-j"],
        ["inspect", "registered", *to, "-j"],
        ["control", "revoke", *to, "one", "two"],
        ["inspect", "--list"],
        ["call", "own.add", "-a", "[40, 2]"],
        ["list", "bindings"],
        ["report"],
        ["purge", "-f", "-Q", "empty"],
        ["graph", "workers", "wmax:0"],
        ["graph", "bootsteps"],
        ["shell", "--python"],
        ["status", "-d", "nobody@nowhere", "-t", "0.2"],
    ]
    ran = run_lines("pyworker", [["-A", "own_api", *line] for line in lines], environment=environment, directory=APPS)
    by_line = {" ".join(line[:2]): each for line, each in zip(lines[:-1], ran)}
    assert by_line["status -d"].output == f"->  {worker.node_name}: OK\n\n1 node online.\n"
    assert json.loads(by_line["inspect ping"].output) == {worker.node_name: {"ok": "pong"}}
    assert "own.add" in json.loads(by_line["inspect registered"].output)[worker.node_name]
    assert by_line["control revoke"].exit_code == 0
    assert "query_task [id1" in by_line["inspect --list"].output
    assert "celery  " in by_line["list bindings"].output
    assert "pyworker:" in by_line["report"].output
    assert by_line["purge -f"].output == "No messages purged from 1 queue.\n"
    assert f'label="{worker.node_name}"' in by_line["graph workers"].output
    assert by_line["graph bootsteps"].exit_code == 1
    assert by_line["shell --python"].exit_code == 0, by_line["shell --python"].errors
    assert ran[-1].exit_code == os.EX_UNAVAILABLE
    result = run_lines(
        "pyworker", [["-A", "own_api", "result", by_line["call own.add"].output.strip()]],
        environment=environment, directory=APPS,
    )  # fmt: skip
    assert result[0].output == "42\n"


def test_help_of_every_command_can_be_shown() -> None:
    environment = worker_environment(broker="redis://", backend="redis://", lane="producer", extra={})
    groups: dict[str, tuple[str, ...]] = {
        "amqp": ("basic.get", "repl"), "graph": ("workers",), "list": ("bindings",), "logtool": ("stats",),
        "upgrade": ("settings",),
    }  # fmt: skip
    singles = "call control events inspect migrate multi purge report result shell status worker check bench demo"
    lines = [[name, "--help"] for name in (*singles.split(), *groups)]
    ran = run_lines("pyworker", [["--help"], *lines], environment=environment, directory=APPS)
    assert all(each.exit_code == 0 for each in ran), ran
    stock = run_lines("celery", [["--help"], *[line for line in lines if line[0] not in ("check", "bench", "demo")]],
                      environment=environment, directory=APPS)  # fmt: skip
    missing: dict[str, Any] = {}
    for line, each in zip(lines, stock[1:]):
        ours = ran[1 + lines.index(line)].output
        options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", each.output)) - {"--help"}
        lacking = {option for option in options if option not in ours}
        if lacking:
            missing[line[0]] = lacking
    assert not missing

"""The differential test: the guide's examples with our API and worker, and the same text with Celery's, on each broker.

Both must be green, and ids aside they must publish the same messages, header by header: the client its own, the
worker those that follow from them.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.comparing import normal
from support.kinds import Kind
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parent.parent
LIBRARIES = {
    "pyworker": Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast"),
    "celery": Kind("stock", (sys.executable, "-m", "celery"), "fast"),
}
#: What Python runs first: in this environment there is no celery.
WITHOUT_CELERY = """
import sys
for name in ("celery", "billiard"):
    sys.modules[name] = None
"""


#: What it runs first for stock Celery on SQLite: the transport is ours (``sqlite://`` has no other), client and worker
#: are Celery's.
WITH_OUR_TRANSPORT = "import pyworker\n"
BROKERS = ("redis", "rabbitmq", "sqlite")
#: Not so where the worker is a thread of the tests' own process: tasks may wait there, as with Celery's test worker;
#: and a state that is followed by the next one at once may not be seen.
OTHERWISE_IN_ONE_PROCESS = ("test_waiting_in_a_task_is_refused", "test_states_of_ones_own")


class Ran(NamedTuple):
    """What came of a run: pytest's exit code and output, and the messages of each example."""

    code: int
    output: str
    messages: dict[str, dict[str, list[dict[str, Any]]]]


@contextmanager
def place(broker: str, directory: Path) -> Iterator[dict[str, str]]:
    """A broker with a result store; gives their addresses as the environment names them."""
    with ExitStack() as stack:
        if broker == "sqlite":
            url = backend = f"sqlite:///{directory}/queue.db"
        else:
            url = backend = stack.enter_context(RedisServer()).url
        if broker == "rabbitmq":
            url = stack.enter_context(RabbitmqHost()).trace().url
        yield {"TEST_BROKER_URL": url, "TEST_RESULT_BACKEND": backend}


def prepare(library: str, broker: str, directory: Path) -> dict[str, str]:
    """Copy the examples, with the import line of a library; returns the environment that they need."""
    shutil.copytree(TESTS / "differential", directory, dirs_exist_ok=True)
    for path in directory.rglob("*.py"):
        path.write_text(re.sub(r"^from pyworker import", f"from {library} import", path.read_text(), flags=re.M))
    first = directory / "first"
    first.mkdir()
    if library == "pyworker":
        (first / "sitecustomize.py").write_text(WITHOUT_CELERY)
    elif broker == "sqlite":
        (first / "sitecustomize.py").write_text(WITH_OUR_TRANSPORT)
    notes = directory / "notes"
    notes.mkdir()
    return {
        "PYTHONPATH": os.pathsep.join([str(first), str(directory), str(TESTS)]),
        "TEST_RECORD": str(directory / "record.json"),
        "TEST_NOTES": str(notes),
    }


def run(library: str, broker: str, directory: Path) -> Ran:
    environment = prepare(library, broker, directory)
    with place(broker, directory) as places, WorkerProcess(
        LIBRARIES[library], "proj.tasks", broker=places["TEST_BROKER_URL"], backend=places["TEST_RESULT_BACKEND"],
        options=("-c", "1"), environment=environment, directory=directory,
    ) as worker:  # fmt: skip
        process = run_examples(directory, {**environment, **places})
        log = "\n".join(worker.lines[-60:]) if process.returncode else ""
    record = Path(environment["TEST_RECORD"])
    return Ran(process.returncode, log + process.stdout + process.stderr, json.loads(record.read_text()))


def run_examples(directory: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist",
         "-c", os.devnull, "--rootdir", str(directory), "-W", "ignore", "--tb", "short", *options, "examples.py"],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module", params=BROKERS)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Both runs on one broker."""
    return {library: run(library, request.param, tmp_path_factory.mktemp(library)) for library in LIBRARIES}


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_examples_hold(runs: dict[str, Ran], library: str) -> None:
    assert runs[library].code == 0, runs[library].output


@pytest.mark.slow
def test_the_examples_hold_in_one_process(tmp_path: Path) -> None:
    environment = prepare("pyworker", "memory", tmp_path)
    places = dict.fromkeys(("TEST_BROKER_URL", "TEST_RESULT_BACKEND"), "memory://")
    others = (word for name in OTHERWISE_IN_ONE_PROCESS for word in ("--deselect", f"examples.py::{name}"))
    process = run_examples(tmp_path, {**environment, **places}, *others)
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"{len(OTHERWISE_IN_ONE_PROCESS)} deselected" in process.stdout


@pytest.mark.slow
def test_both_publish_the_same(runs: dict[str, Ran]) -> None:
    ours, theirs = runs["pyworker"].messages, runs["celery"].messages
    assert ours.keys() == theirs.keys()
    different = {name: first_difference(comparable(theirs[name]), comparable(ours[name])) for name in ours}
    assert {name: lines for name, lines in different.items() if lines} == {}


def first_difference(theirs: str, ours: str) -> list[str]:
    """Return the first lines that differ."""
    lines = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), "celery", "pyworker", lineterm="", n=1)
    return list(lines)[:12]


def comparable(example: dict[str, list[dict[str, Any]]]) -> str:
    """Return an example's messages without ids and addresses, the worker's in an order of their own."""
    worker = sorted(example["worker"], key=lambda message: repr(normal([message])))
    for message in (*example["client"], *worker):
        message["headers"]["origin"] = "somewhere"
        message["properties"].pop("origin", None)
    return pformat(normal([*example["client"], *worker]), width=110)

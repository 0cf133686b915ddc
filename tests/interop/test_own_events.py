"""Events of an app of our own: both receivers, our dispatcher, ``task-sent``, cameras; on Redis and SQLite."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from pyworker.events.state import State
from support.event_recorder import Recorder, view
from support.kinds import OWN
from support.sqlite_stage import SqliteStage
from support.stage import Stage
from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
OPTIONS = ("-c", "1", "-E", "-n", "own@%h")
DEADLINE_S = 60.0


@pytest.fixture(scope="module", params=[Stage, SqliteStage], ids=["redis", "sqlite"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A worker of our own app, and the stock client."""
    with request.param(OWN, "either", options=OPTIONS, environment={"TEST_LIBRARY": "pyworker"}) as opened:
        yield opened


@pytest.fixture
def own_app(stage: Stage) -> Iterator[Any]:
    """A monitor's application of our own library."""
    app = pyworker.Celery(
        "tasks", broker=stage.app.conf.broker_url, backend=stage.app.conf.result_backend, set_as_current=False
    )
    yield app
    app.close()


def test_our_receiver_and_celerys_are_told_the_same(stage: Stage, own_app: Any) -> None:
    with Recorder(own_app) as ours, Recorder(stage.app) as theirs:
        stage.tasks.add.apply_async((1, 2), task_id="same-ok")
        stage.tasks.raising.apply_async(("why",), task_id="same-bad")
        stage.tasks.announcing.apply_async((40,), task_id="same-own")
        for recorder in (ours, theirs):
            recorder.wait_for("task-succeeded", uuid="same-ok")
            recorder.wait_for("task-failed", uuid="same-bad")
            recorder.wait_for("task-succeeded", uuid="same-own")
            recorder.wait_for("task-progress", uuid="same-own", percent=40)
    for task_id in ("same-ok", "same-bad", "same-own"):
        told = [[view(event) for event in recorder.of_tasks()[task_id]] for recorder in (ours, theirs)]
        assert told[0] == told[1]
    assert ours.types("same-ok") == ["task-received", "task-started", "task-succeeded"]


def test_the_state_of_an_app_follows_its_worker(stage: Stage, own_app: Any) -> None:
    state = own_app.events.State()
    assert isinstance(state, State)
    with Recorder(own_app) as recorder:
        stage.tasks.gated.apply_async(("state",), task_id="followed")
        recorder.wait_for("task-started", uuid="followed")
        stage.open_gate("state")
        recorder.wait_for("task-succeeded", uuid="followed")
        recorder.wait_for("worker-heartbeat")
    for event in list(recorder.events):
        state.event(event)
    task = state.tasks["followed"]
    assert (task.name, task.state, task.worker.hostname) == ("tasks.gated", "SUCCESS", stage.worker.node_name)
    assert task.received <= task.started <= task.succeeded
    assert next(state.alive_workers()).sw_ident == "pyworker"


def test_our_dispatcher_reaches_celerys_receiver(stage: Stage, own_app: Any) -> None:
    with Recorder(stage.app) as recorder:
        with own_app.events.default_dispatcher(hostname="me@here") as dispatcher:
            dispatcher.send("order-paid", amount=3)
        with own_app.connection_for_write() as connection:
            collected = own_app.events.Dispatcher(connection, hostname="lists@here", buffer_group=["order"])
            for amount in (4, 5):
                collected.send("order-paid", amount=amount)
            collected.flush()
            silent = own_app.events.Dispatcher(connection, groups=["worker"])
            silent.send("order-paid", amount=6)
            silent.send("worker-said", amount=7)
            assert recorder.wait_for("worker-said")["amount"] == 7
        first = recorder.wait_for("order-paid", amount=3)
        assert recorder.wait_for("order-paid", amount=5)["hostname"] == "lists@here"
    assert first["hostname"] == "me@here"
    assert first.keys() == {
        "type", "hostname", "amount", "utcoffset", "pid", "clock", "timestamp", "local_received",
    }  # fmt: skip
    assert [event["amount"] for event in recorder.of_type("order-paid")] == [3, 4, 5]


def test_the_client_says_that_it_sent_a_task_as_celerys_does(stage: Stage, own_app: Any) -> None:
    either = {"celery": stage.app, "pyworker": own_app}
    for app in either.values():
        app.conf.task_send_sent_event = True
    try:
        with Recorder(stage.app) as recorder:
            for name, app in either.items():
                app.send_task("tasks.add", (1, 2), {}, task_id=f"sent-{name}", expires=600, root_id="the-root")
                app.signature("tasks.mul", (3, 4), app=app).apply_async(task_id=f"plain-{name}")
            told = {
                name: [recorder.wait_for("task-sent", uuid=f"{how}-{name}") for how in ("sent", "plain")]
                for name in either
            }
            recorder.wait_for("task-succeeded", uuid="plain-pyworker")
    finally:
        stage.app.conf.task_send_sent_event = False
    assert [view(event) | {"expires": None} for event in told["pyworker"]] == [
        view(event) | {"expires": None} for event in told["celery"]
    ]
    assert told["pyworker"][0]["hostname"] == told["celery"][0]["hostname"] == f"gen{os.getpid()}@{_host(stage)}"
    # A client's clock is never in step: its event may stand anywhere.
    assert sorted(recorder.types("plain-pyworker")) == [
        "task-received", "task-sent", "task-started", "task-succeeded",
    ]  # fmt: skip


def _host(stage: Stage) -> str:
    return str(stage.worker.node_name.partition("@")[2])


def test_queue_settings_make_the_queue(stage: Stage, own_app: Any) -> None:
    own_app.conf.update(event_queue_prefix="watch", event_queue_ttl=3.0, event_queue_expires=9.0)
    with own_app.connection_for_read() as connection:
        receiver = own_app.events.Receiver(connection, node_id="me")
        assert receiver.queue.name == "watch.me"
        assert (receiver.queue.message_ttl, receiver.queue.expires) == (3.0, 9.0)
        assert (receiver.queue.exclusive, receiver.queue.durable, receiver.queue.auto_delete) == (True, False, True)
        durable = own_app.events.Receiver(connection, queue_exclusive=False, queue_durable=True)
        assert (durable.queue.durable, durable.queue.auto_delete) == (True, False)
        with pytest.raises(pyworker.exceptions.ImproperlyConfigured, match="exclusive and durable"):
            own_app.events.Receiver(connection, queue_durable=True)


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_a_camera_takes_pictures(stage: Stage, library: str, tmp_path: Path) -> None:
    pictures, pidfile = tmp_path / "pictures", tmp_path / "cam.pid"
    environment = worker_environment(
        broker=stage.app.conf.broker_url, backend=stage.app.conf.result_backend, lane="fast",
        extra={"TEST_LIBRARY": library, "TEST_PICTURES": str(pictures), "TEST_JOURNAL_URL": stage.server.url},
    )  # fmt: skip
    command = [
        sys.executable, "-m", "pyworker", "-A", "either", "events", "--camera", "cameras.Camera", "--freq", "0.1",
        "--maxrate", "600/m", "--pidfile", str(pidfile),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, cwd=APPS, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "-> evcam: Taking snapshots with cameras.Camera (every 0.1 secs.)\n"
        assert int(eventually(pidfile.read_text, deadline_s=DEADLINE_S)) == process.pid
        task_id = f"pictured-{library}"
        seen = eventually(lambda: _pictures(stage, pictures, task_id), deadline_s=DEADLINE_S)
        refused = subprocess.run(command, env=environment, cwd=APPS, capture_output=True, text=True, check=False)
        assert refused.returncode != 0 and "already" in refused.stderr + refused.stdout
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert not pidfile.exists()
    assert seen["pid"] == process.pid and seen["freq"] == 0.1 and seen["app"] == "tasks"


def _pictures(stage: Stage, path: Path, task_id: str) -> Any:
    """Run a task; return a picture that shows its end, if there is one."""
    stage.tasks.add.apply_async((1, 2), task_id=task_id).get(timeout=DEADLINE_S)
    lines = path.read_text().splitlines() if path.exists() else []
    shown = [json.loads(line) for line in lines]
    return next((each for each in shown if each["tasks"].get(task_id, ["", ""])[1] == "SUCCESS"), None)


def test_a_camera_runs_in_the_background(stage: Stage, tmp_path: Path) -> None:
    pictures, pidfile = tmp_path / "pictures", tmp_path / "cam.pid"
    environment = worker_environment(
        broker=stage.app.conf.broker_url, backend=stage.app.conf.result_backend, lane="fast",
        extra={"TEST_LIBRARY": "pyworker", "TEST_PICTURES": str(pictures), "TEST_JOURNAL_URL": stage.server.url},
    )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "pyworker", "-A", "either", "events", "-d", "-c", "cameras.Camera", "-F", "0.1",
            f"--pidfile={pidfile}", f"--logfile={tmp_path / 'log'}",
        ],
        env=environment, cwd=APPS, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pid = int(eventually(lambda: pidfile.exists() and pidfile.read_text(), deadline_s=DEADLINE_S))
    try:
        picture = eventually(lambda: _pictures(stage, pictures, "pictured-behind"), deadline_s=DEADLINE_S)
        assert picture["pid"] == pid
    finally:
        os.kill(pid, 15)
    eventually(lambda: not pidfile.exists(), deadline_s=DEADLINE_S)


def test_a_camera_that_is_not_there_is_named(stage: Stage) -> None:
    environment = worker_environment(
        broker=stage.app.conf.broker_url, backend=stage.app.conf.result_backend, lane="fast",
        extra={"TEST_LIBRARY": "pyworker", "TEST_JOURNAL_URL": stage.server.url},
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pyworker", "-A", "either", "events", "--camera", "cameras.None"],
        env=environment, cwd=APPS, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 69
    assert "'cameras.None' cannot be imported" in done.stderr


def test_the_names_are_celerys() -> None:
    for name in ("events", "events.state", "events.snapshot", "events.receiver", "events.dispatcher"):
        theirs = importlib.import_module(f"celery.{name}")
        ours = importlib.import_module(f"pyworker.{name}")
        missing = set(theirs.__all__) - set(dir(ours))
        assert not missing, f"{name}: {missing}"
    assert {"Receiver", "Dispatcher", "State", "default_dispatcher"} <= set(dir(pyworker.Celery("n").events))
    assert celery.events is not None

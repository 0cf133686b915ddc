"""Signed messages between real workers and producers of both libraries; what nobody known signed is refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.coded import KINDS, coded_workers
from support.redis_server import RedisServer
from support.signing import PASSWORD, Signers
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stage(NamedTuple):
    server: RedisServer
    signers: Signers
    workers: dict[str, WorkerProcess]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker of each kind that signs as ``first`` and knows ``second`` too, whose key has a password."""
    signers = Signers(tmp_path_factory.mktemp("signers"))
    signers.add("first")
    signers.add("second", password=PASSWORD)
    signers.add("stranger", is_known=False)
    with RedisServer() as server:
        environment = {"TEST_SIGNERS": str(signers.directory), "TEST_SIGNER": "first"}
        with coded_workers(server.url, server.url, environment) as workers:
            yield Stage(server, signers, workers)


def produce(stage: Stage, library: str, *queues: str, signer: str | None = "second") -> Any:
    """Send from a process of its own; returns what came back by queue."""
    environment = {
        **os.environ, "TEST_LIBRARY": library, "CLIENT_BROKER_URL": stage.server.url,
        "CLIENT_RESULT_BACKEND": stage.server.url, "PYTHONPATH": str(APPS),
    }  # fmt: skip
    if signer is not None:
        environment |= {"TEST_SIGNERS": str(stage.signers.directory), "TEST_SIGNER": signer}
    done = subprocess.run(
        [sys.executable, str(APPS / "coded_client.py"), *queues],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_signed_tasks_run_and_signed_results_come_back(stage: Stage, library: str) -> None:
    found = produce(stage, library, *KINDS)
    assert found == {name: [[1, "täxt"], {"from": library}] for name in KINDS}
    for key in stage.server.client.keys("celery-task-meta-*"):
        assert stage.server.client.get(key).count("\x00\x01") == 0
        assert base64.b64decode(stage.server.client.get(key)).count(b"\x00\x01") >= 4


def _body(change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any]], None]:
    def forge(message: dict[str, Any]) -> None:
        signed = base64.b64decode(message["body"])
        message["body"] = base64.b64encode(change(signed)).decode()

    return forge


def _unsigned(message: dict[str, Any]) -> None:
    message["body"] = base64.b64encode(b'[[1], {}, {"chord": null}]').decode()
    message["content-type"] = "application/json"


def _pickled(message: dict[str, Any]) -> None:
    message["content-type"] = "application/x-python-serialize"
    message["content-encoding"] = "binary"


def _other_argument(signed: bytes) -> bytes:
    return base64.b64encode(base64.b64decode(signed).replace(b"[[1,", b"[[2,"))


_DAMAGED = r"Can't decode message body: .*Unable to deserialize"
_REFUSED = r"Received invalid task message: Refusing to deserialize"
FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "tampered": (_body(_other_argument), _DAMAGED),
    "cut off": (_body(lambda signed: signed[:-8]), _DAMAGED),
    "no signature": (_body(lambda _: base64.b64encode(b'[[1], {}, {"chord": null}]')), _DAMAGED),
    "unsigned": (_unsigned, _REFUSED),
    "called pickle": (_pickled, _REFUSED),
}


def refused_by(worker: WorkerProcess, position: int, reason: str) -> None:
    """The worker says why, as Celery does, and did not run it."""
    worker.wait_for_line(reason, after=position, deadline_s=60)
    assert not any("coded.echo" in line and "succeeded" in line for line in worker.lines_after(position))


@pytest.fixture(scope="module")
def parked(stage: Stage) -> str:
    """A good message, which nobody took."""
    produce(stage, "celery", "-parked")
    return str(stage.server.client.rpop("parked"))


@pytest.mark.parametrize("how", list(FORGERIES))
def test_what_was_forged_is_refused(stage: Stage, parked: str, how: str) -> None:
    """By the stock worker as by ours: the same message to each, taken and gone afterwards."""
    forge, reason = FORGERIES[how]
    client = stage.server.client
    for name, worker in stage.workers.items():
        message = json.loads(parked)
        message["properties"]["delivery_tag"] = f"{name}-{how}"
        forge(message)
        position = worker.mark()
        client.lpush(name, json.dumps(message))
        refused_by(worker, position, reason)
        eventually(lambda: not client.llen(name) and not client.hlen("unacked"), what="the message is gone")  # noqa: B023


@pytest.mark.parametrize("library", ["pyworker", "celery"])
def test_strangers_are_refused(stage: Stage, library: str) -> None:
    positions = {name: worker.mark() for name, worker in stage.workers.items()}
    produce(stage, library, *(f"-{name}" for name in KINDS), signer="stranger")
    for name, worker in stage.workers.items():
        refused_by(worker, positions[name], "Can't decode message body: .*Unknown certificate")


def test_remote_control_is_signed_too(stage: Stage) -> None:
    """Our commands reach our workers: whoever accepts signed content alone is asked and answers signed."""
    for library, name in (("pyworker", "own"), ("celery", "adapted")):
        command = "pyworker" if library == "pyworker" else "celery"
        done = subprocess.run(
            [sys.executable, "-m", command, "-A", "coded", "inspect", "ping", "--json", "-t", "30", "-d",
             stage.workers[name].node_name],
            env={**os.environ, "TEST_LIBRARY": library, "TEST_BROKER_URL": stage.server.url,
                 "TEST_RESULT_BACKEND": stage.server.url, "PYTHONPATH": str(APPS),
                 "TEST_SIGNERS": str(stage.signers.directory), "TEST_SIGNER": "second"},
            cwd=APPS, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)[stage.workers[name].node_name] == {"ok": "pong"}

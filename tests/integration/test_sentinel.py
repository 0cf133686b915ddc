"""Failover by real Sentinels while tasks run: consuming goes on at the new primary, and nothing replicated is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.connected import connected_client, connected_worker
from support.redis_kinds import SentinelGroup
from support.redis_server import RedisServer
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::PendingDeprecationWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ),
]

BACKLOG = 800


@pytest.fixture
def notebook() -> Iterator[RedisServer]:
    """Where tasks write down that they ran; not part of what fails."""
    with RedisServer() as running:
        yield running


def notes_of(notebook: RedisServer) -> list[tuple[int, float]]:
    entries = (entry.split(" ") for entry in notebook.client.lrange("notes", 0, -1))
    return [(int(number), float(when)) for number, when in entries]


class Publisher(threading.Thread):
    """Publishes one task after the other through the failover; knows which the broker acknowledged, and when."""

    def __init__(self, names: Any, first: int) -> None:
        super().__init__(name="publisher", daemon=True)
        self._names = names
        self._next = first
        self.acknowledged: dict[int, float] = {}
        self.refusals: list[str] = []
        self.may_end = threading.Event()

    def run(self) -> None:
        while not self.may_end.is_set():
            number, self._next = self._next, self._next + 1
            try:
                self._names.note.apply_async((number,))
                self.acknowledged[number] = time.time()
            except Exception as error:  # each library has its own
                self.refusals.append(repr(error))
            self.may_end.wait(0.002)


@pytest.mark.parametrize(
    ("library", "ending"), [("celery", signal.SIGKILL), ("pyworker", signal.SIGSTOP)], ids=["killed", "frozen"]
)
def test_failover_while_tasks_run(library: str, ending: signal.Signals, notebook: RedisServer) -> None:
    """A frozen primary keeps its connections open: only Sentinel knows that another one took over."""
    with SentinelGroup() as group:
        settings = {
            "broker_url": group.url,
            "broker_transport_options": group.options,
            "result_backend": group.url,
            "result_backend_transport_options": group.options,
        }
        # Without a result store of its own: Celery's client waits for it to come back at its every end.
        names = connected_client(library, settings | {"result_backend": None})
        for number in range(BACKLOG):
            names.note.apply_async((number,))
        assert group.primary.client.wait(1, 20_000) == 1
        environment = {"TEST_JOURNAL_URL": notebook.url}
        with connected_worker(library, settings, environment=environment):
            eventually(lambda: notebook.client.llen("notes") >= 100, deadline_s=60, what="the backlog is worked on")
            publisher = Publisher(names, BACKLOG)
            publisher.start()
            os.kill(group.primary.pid, ending)
            eventually(lambda: group.primary_port() == group.replica.port, deadline_s=60, what="a new primary")
            promoted_s = time.time()
            # What is acknowledged from here on is the new primary's, whichever the client asked.
            eventually(
                lambda: sum(when > promoted_s for when in publisher.acknowledged.values()) >= 20,
                deadline_s=90, what="publishing goes on",
            )  # fmt: skip
            publisher.may_end.set()
            publisher.join(timeout=60)
            expected = set(range(BACKLOG))
            expected |= {number for number, when in publisher.acknowledged.items() if when > promoted_s}
            eventually(
                lambda: expected <= {number for number, _ in notes_of(notebook)},
                deadline_s=90, what="every replicated task ran",
            )  # fmt: skip
        notes = notes_of(notebook)
        resumed_s = min((when for _, when in notes if when > promoted_s), default=0.0) - promoted_s
        ran = {number for number, _ in notes}
        lost = [number for number in publisher.acknowledged if number not in ran]
        print(f"first start {resumed_s:.2f} s after the new primary; {len(notes) - len(ran)} repeated;", end=" ")
        print(f"{len(lost)} of {len(publisher.acknowledged)} acknowledged while failing over lost;", end=" ")
        print(f"{len(publisher.refusals)} refused")
        names.app.close()

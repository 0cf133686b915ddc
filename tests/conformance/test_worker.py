"""What a worker promises on every broker, each promise one test.

The brokers' own part (batches, leases, restarts of the server) is ``native/tests/broker_conformance.rs``.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import chord, group
from pyworker.exceptions import ChordError, TaskRevokedError
from support.kinds import PLACES
from support.places import Place, RunningWorker, open_place
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

DEADLINE_S = 60.0


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    opened = open_place(request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[RunningWorker]:
    """One worker for the tests that need no other."""
    with place.worker("shared") as running:
        yield running


@pytest.fixture
def names(place: Place, worker: RunningWorker) -> Any:
    """The tasks, with a worker that has nothing to do."""
    place.wait_until_settled()
    return place.names


class Notes:
    """What tasks wrote, and the gate that lets them go on."""

    def __init__(self, folder: Path) -> None:
        self._path, self._gate = folder / "notes", folder / "gate"

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def gate(self) -> str:
        return str(self._gate)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def wait_for(self, count: int) -> list[str]:
        eventually(lambda: len(self.lines()) >= count, deadline_s=DEADLINE_S, what=f"{count} lines of {self._path}")
        return self.lines()

    def open_gate(self) -> None:
        self._gate.touch()

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Open the gate however a block ends: a worker in this process would wait for its task."""
        try:
            yield
        finally:
            self.open_gate()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path)
    yield made
    # Whatever a failed test left running goes on.
    made.open_gate()


def test_every_message_is_delivered_once(place: Place, names: Any, notes: Notes) -> None:
    expected = [f"n{number}" for number in range(200)]
    for line in expected:
        names.note.delay(notes.path, line)
    notes.wait_for(len(expected))
    place.wait_until_settled()
    assert sorted(notes.lines()) == sorted(expected)


def test_order_and_priorities_are_kept(place: Place, notes: Notes) -> None:
    def publish(lines: list[str], priority: int) -> None:
        for line in lines:
            place.names.note.apply_async((notes.path, line), queue="ordered", priority=priority)

    plain, urgent = [f"plain{number}" for number in range(30)], ["urgent0", "urgent1"]
    publish(plain, place.plain)
    publish(urgent, place.urgent)
    with place.worker("ordering", queue="ordered"):
        assert notes.wait_for(len(plain) + 2) == urgent + plain


def test_an_eta_is_waited_for(names: Any) -> None:
    earliest = datetime.now(timezone.utc).timestamp() + 1
    later = names.moment.apply_async(countdown=1)
    sooner = names.moment.delay()
    assert sooner.get(timeout=DEADLINE_S) < earliest <= later.get(timeout=DEADLINE_S)


def test_what_has_expired_does_not_run(place: Place, names: Any, notes: Notes) -> None:
    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    late = names.held.apply_async((notes.path, notes.gate), expires=past)
    with pytest.raises(TaskRevokedError):
        late.get(timeout=DEADLINE_S)
    assert late.state == "REVOKED"
    place.wait_until_settled()
    assert notes.lines() == []


def test_an_early_ack_is_given_at_the_start(place: Place, names: Any, notes: Notes) -> None:
    result = names.held.delay(notes.path, notes.gate)
    notes.wait_for(1)
    place.wait_until_settled()
    notes.open_gate()
    assert result.get(timeout=DEADLINE_S) == "held"


def test_a_late_ack_is_given_at_the_end(place: Place, names: Any, notes: Notes) -> None:
    result = names.held_late.delay(notes.path, notes.gate)
    notes.wait_for(1)
    assert place.counts() == (0, 1)
    notes.open_gate()
    assert result.get(timeout=DEADLINE_S) == "held"
    place.wait_until_settled()


def test_a_rejected_message_is_gone_or_comes_again(place: Place, names: Any, notes: Notes) -> None:
    names.rejecting.delay(notes.path, False)
    notes.wait_for(1)
    place.wait_until_settled()
    assert notes.lines() == ["first"]
    names.rejecting.delay(notes.path, True)
    assert notes.wait_for(3) == ["first", "first", "again"]
    place.wait_until_settled()


def test_a_lease_lasts_as_long_as_the_task_and_ends_with_its_worker(place: Place, notes: Notes, tmp_path: Path) -> None:
    held = place.names.held_late.apply_async((notes.path, notes.gate), queue="leased")
    with place.process("owner", queue="leased", visibility_timeout_s=1.0) as owner:
        notes.wait_for(1)
        with place.worker("heir", queue="leased,timing", visibility_timeout_s=1.0), notes.letting_go():
            # When this has run the visibility timeout has passed twice.
            other = tmp_path / "timer"
            place.names.note.apply_async((str(other), "now"), queue="timing", countdown=2.5)
            eventually(other.exists, deadline_s=DEADLINE_S, what="the timer's task ran")
            assert notes.lines() == ["begun"]
            owner.kill_all()
            assert notes.wait_for(2) == ["begun", "begun"]
            notes.open_gate()
            assert held.get(timeout=DEADLINE_S) == "held"
            place.wait_until_settled()


def test_no_more_is_reserved_than_was_asked_for_and_a_warm_shutdown_hands_it_back(place: Place, notes: Notes) -> None:
    """Also: what was running ends before the worker does, and what was handed back keeps its place."""
    names = place.names
    held = names.held_late.apply_async((notes.path, notes.gate), queue="reserved")
    for number in range(5):
        names.note.apply_async((notes.path, f"n{number}"), queue="reserved")
    with place.worker("leaving", queue="reserved", multiplier=2) as leaving, notes.letting_go():
        notes.wait_for(1)
        # The answer shows that the worker has had its turn since.
        assert names.app.control.ping(destination=[leaving.node_name], timeout=DEADLINE_S, limit=1)
        assert place.counts() == (4, 2)
        leaving.ask_to_stop()
        eventually(lambda: place.counts() == (5, 1), deadline_s=DEADLINE_S, what="the reserved message went back")
        notes.open_gate()
        assert leaving.wait() == 0
    assert held.get(timeout=DEADLINE_S) == "held"
    assert place.counts() == (5, 0)
    assert notes.lines() == ["begun"]
    with place.worker("staying", queue="reserved"):
        assert notes.wait_for(6) == ["begun", "n0", "n1", "n2", "n3", "n4"]
    place.wait_until_settled()


def test_a_revoked_task_does_not_run(place: Place, names: Any, worker: RunningWorker, notes: Notes) -> None:
    first = names.held.delay(notes.path, notes.gate)
    notes.wait_for(1)
    second = names.held.delay(notes.path, notes.gate)
    names.app.control.revoke(second.id)
    # Commands of one node are obeyed in order.
    assert names.app.control.ping(destination=[worker.node_name], timeout=DEADLINE_S, limit=1)
    notes.open_gate()
    assert first.get(timeout=DEADLINE_S) == "held"
    with pytest.raises(TaskRevokedError):
        second.get(timeout=DEADLINE_S)
    assert notes.lines() == ["begun"]


def test_results_tell_how_tasks_went(names: Any, notes: Notes) -> None:
    assert names.add.delay(20, 22).get(timeout=DEADLINE_S) == 42
    failed = names.fail.delay("as it should")
    with pytest.raises(ValueError, match="as it should"):
        failed.get(timeout=DEADLINE_S)
    assert failed.state == "FAILURE"
    assert "as it should" in failed.traceback
    running = names.held.delay(notes.path, notes.gate)
    eventually(lambda: running.state == "PROGRESS", deadline_s=DEADLINE_S, what="the state that the task set")
    assert running.info == {"done": 50}
    notes.open_gate()
    assert running.get(timeout=DEADLINE_S) == "held"
    running.forget()
    assert running.state == "PENDING"
    ignored = names.add.apply_async((1, 1), ignore_result=True)
    assert names.add.delay(1, 2).get(timeout=DEADLINE_S) == 3
    assert ignored.state == "PENDING"


def test_groups_chains_and_chords(names: Any) -> None:
    header = [names.add.s(number, number) for number in range(12)]
    doubled = [2 * number for number in range(12)]
    assert group(header, app=names.app)().get(timeout=DEADLINE_S) == doubled
    assert (names.add.s(1, 2) | names.add.s(10)).apply_async().get(timeout=DEADLINE_S) == 13
    assert chord(header, app=names.app)(names.total.s()).get(timeout=DEADLINE_S) == sum(doubled)
    upgraded = group(header, app=names.app) | names.total.s() | names.add.s(1)
    assert upgraded.apply_async().get(timeout=DEADLINE_S) == sum(doubled) + 1
    broken = chord([*header, names.fail.s("one of them")], app=names.app)(names.total.s())
    with pytest.raises(ChordError, match="one of them"):
        broken.get(timeout=DEADLINE_S)


def test_a_broadcast_reaches_every_worker(place: Place, names: Any, worker: RunningWorker) -> None:
    with place.worker("second") as second:
        answers = names.app.control.ping(timeout=DEADLINE_S, limit=2)
    answered = {node for answer in answers for node in answer}
    assert answered == {worker.node_name, second.node_name}

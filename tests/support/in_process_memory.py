"""kombu's in-process transport with a worker in a thread, in a process of its own: prints one JSON line of outcomes.

In a process of its own, because kombu's memory transport and Celery's worker keep what they know in their modules.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.result import allow_join_result

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "apps")]

from support.waiting import eventually  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_DEADLINE_S = 90.0


def main() -> None:
    """Run every scenario and say how it went."""
    folder = Path(tempfile.mkdtemp())
    (folder / "results").mkdir()
    os.environ.update(
        TEST_NOTES_DIR=str(folder), TEST_BROKER_URL="memory://", TEST_RESULT_BACKEND=f"file://{folder}/results"
    )
    module = importlib.import_module("carried")
    notes = importlib.import_module("notes")
    start_worker: Any = importlib.import_module("pyworker.contrib.testing.worker").start_worker
    outcomes: dict[str, str] = {}
    with start_worker(module.app, perform_ping_check=False):
        for scenario in _SCENARIOS:
            outcomes[scenario.__name__] = _outcome(scenario, module, notes)
    outcomes["shutdown"] = _outcome(shutdown, module, notes)
    # The worker has taken the other one over.
    print(json.dumps(outcomes), file=sys.__stdout__, flush=True)


def _outcome(scenario: Callable[[Any, Any], None], module: Any, notes: Any) -> str:
    try:
        scenario(module, notes)
    except BaseException:
        return traceback.format_exc()
    return "passed"


def get(result: Any) -> Any:
    """Wait for a result."""
    # One process is worker and client: Celery takes this for a task that waits.
    with allow_join_result():
        return result.get(timeout=_DEADLINE_S, interval=0.01)


def results(module: Any, notes: Any) -> None:
    sent = [module.add.delay(number, number) for number in range(20)]
    late = [module.add_late.delay(number, 1) for number in range(10)]
    assert [get(result) for result in sent] == [2 * number for number in range(20)]
    assert [get(result) for result in late] == [number + 1 for number in range(10)]


def retries(module: Any, notes: Any) -> None:
    assert get(module.retried.delay("retried")) == 2
    assert [entry["retries"] for entry in notes.notes("retried")] == [0, 1, 2]


def requeue(module: Any, notes: Any) -> None:
    assert get(module.requeued.delay("requeued")) == "second time"
    assert [entry["redelivered"] for entry in notes.notes("requeued")] == [False, True]


def reject(module: Any, notes: Any) -> None:
    module.rejected.delay("rejected")
    assert get(module.add_late.delay(1, 1)) == 2
    assert len(notes.notes("rejected")) == 1


def eta(module: Any, notes: Any) -> None:
    later = module.noted.apply_async(("eta", "later"), countdown=0.6)
    at_once = module.noted.delay("eta", "at once")
    assert [get(later), get(at_once)] == ["later", "at once"]
    assert [entry["label"] for entry in notes.notes("eta")] == ["at once", "later"]


def payloads(module: Any, notes: Any) -> None:
    text = "snowman ☃ 𝄞 \x00" * 5_000
    assert get(module.length.delay(text)) == len(text)
    assert get(module.length.apply_async((text,), compression="gzip")) == len(text)


def order(module: Any, notes: Any) -> None:
    for number in range(30):
        module.noted.delay("order", number)
    assert get(module.noted.delay("order", 30)) == 30
    assert [entry["label"] for entry in notes.notes("order")] == list(range(31))


def shutdown(module: Any, notes: Any) -> None:
    """What was reserved and not started is in the queue when the worker is gone."""
    start_worker: Any = importlib.import_module("pyworker.contrib.testing.worker").start_worker
    with start_worker(module.app, perform_ping_check=False) as worker:
        for number in range(8):
            module.gated.delay("leaving", "leaving", number)
        pause = threading.Event()
        while not notes.notes("leaving"):
            pause.wait(0.005)
        worker.request_shutdown()
        while _waiting(module.app) < 7:
            pause.wait(0.005)
        notes.open_gate("leaving")
    assert [entry["label"] for entry in notes.notes("leaving")] == [0]
    with start_worker(module.app, perform_ping_check=False):
        get(module.add.delay(1, 1))
    assert sorted(entry["label"] for entry in notes.notes("leaving")) == list(range(8))


def delivery_information(module: Any, notes: Any) -> None:
    result = module.delivery.delay()
    found = get(result)
    assert (found["id"], found["routing_key"], found["redelivered"]) == (result.id, "celery", False)


def expiry(module: Any, notes: Any) -> None:
    expired = module.noted.apply_async(("expired",), expires=-1)
    assert get(module.noted.apply_async(("expired", "in time"), expires=600)) == "in time"
    eventually(lambda: expired.state == "REVOKED", deadline_s=_DEADLINE_S, what="the expired task is revoked")
    assert [entry["label"] for entry in notes.notes("expired")] == ["in time"]


def workflow(module: Any, notes: Any) -> None:
    chain = module.add.s(1, 2) | module.add.s(3) | module.add.s(4)
    assert get(chain.apply_async()) == 10


def _waiting(app: Any) -> int:
    with app.connection_for_write() as connection:
        return int(connection.default_channel.queue_declare("celery", passive=True).message_count)


_SCENARIOS = (
    results, retries, requeue, reject, eta, payloads, order, delivery_information, expiry, workflow,
)  # fmt: skip

if __name__ == "__main__":
    main()

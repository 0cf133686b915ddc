"""What the demo sends and what it expects: one function per kind of task."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_DEADLINE_S = 30.0
_ETA_S = 2.0
_FORGOTTEN = 50


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of the demo's table."""

    title: str
    call: str
    #: Does the step with the application's module; returns (what happened, whether that is right).
    run: Callable[[Any], tuple[str, bool]]


def _result(module: Any) -> tuple[str, bool]:
    value = module.add.delay(20, 22).get(timeout=_DEADLINE_S)
    return f"{value}", value == 42


def _retry(module: Any) -> tuple[str, bool]:
    result = module.flaky.delay(3)
    value = result.get(timeout=_DEADLINE_S)
    return f"{value}", value == "done at attempt 3"


def _eta(module: Any) -> tuple[str, bool]:
    due = datetime.now(timezone.utc) + timedelta(seconds=_ETA_S)
    sent_at = time.monotonic()
    value = module.add.apply_async((1, 2), eta=due).get(timeout=_DEADLINE_S)
    waited_s = time.monotonic() - sent_at
    return f"{value} after {waited_s:.2f} s", value == 3 and _ETA_S - 0.01 <= waited_s < _ETA_S + 1.0


def _chain(module: Any) -> tuple[str, bool]:
    # Signatures come from the tasks, so this works for every library with Celery's API.
    value = (module.add.s(1, 2) | module.multiply.s(10) | module.add.s(5)).apply_async().get(timeout=_DEADLINE_S)
    return f"{value}", value == 35


def _failure(module: Any) -> tuple[str, bool]:
    result = module.fail.delay("as it should")
    error = result.get(timeout=_DEADLINE_S, propagate=False)
    return f"{result.state}: {error!r}", result.state == "FAILURE" and repr(error) == "ValueError('as it should')"


def _expired(module: Any) -> tuple[str, bool]:
    result = module.add.apply_async((1, 1), expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    result.get(timeout=_DEADLINE_S, propagate=False)
    return f"{result.state}", result.state == "REVOKED"


def _ignored(module: Any) -> tuple[str, bool]:
    results = [module.forget.delay(number) for number in range(_FORGOTTEN)]
    # The queue is in order: when a later task is done, these have been taken.
    module.add.delay(0, 0).get(timeout=_DEADLINE_S)
    stored = [result for result in results if result.state != "PENDING"]
    return f"{len(stored)} results stored", not stored


STEPS = (
    Step(title="result", call="add.delay(20, 22).get()", run=_result),
    Step(title="retry", call="flaky.delay(succeed_at=3).get()", run=_retry),
    Step(title="ETA", call=f"add.apply_async((1, 2), eta=now + {_ETA_S:.0f} s).get()", run=_eta),
    Step(title="chain", call="(add.s(1, 2) | multiply.s(10) | add.s(5))().get()", run=_chain),
    Step(title="failure", call="fail.delay('as it should')", run=_failure),
    Step(title="expired", call="add.apply_async((1, 1), expires=a second ago)", run=_expired),
    Step(title="ignored result", call=f"{_FORGOTTEN} x forget.delay(n)", run=_ignored),
)

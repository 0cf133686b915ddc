"""Time limits that are changed at run time hold for tasks received since.

Not beside Celery's own worker: in 5.7 the command answers alike there, but a task's limits are those of the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.kinds import OWN
from support.stage import Stage

if TYPE_CHECKING:
    from support.kinds import Kind

_DEADLINE_S = 60.0


@pytest.mark.lanes("fast", "library", "parent")
def test_changed_limits_hold(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1")) as stage:
        see_that_they_hold(stage)


def test_changed_limits_hold_for_an_app_of_our_own() -> None:
    with Stage(OWN, "either", options=("-c", "1"), environment={"TEST_LIBRARY": "pyworker"}) as stage:
        see_that_they_hold(stage)


def see_that_they_hold(stage: Stage) -> None:
    """Limit a task that would wait for ever."""
    for limit, error in (("hard", "TimeLimitExceeded"), ("soft", "SoftTimeLimitExceeded")):
        [reply] = stage.app.control.time_limit("tasks.gated", **{limit: 1}, reply=True, timeout=_DEADLINE_S, limit=1)
        assert list(reply.values()) == [{"ok": "time limits set successfully"}]
        result = stage.tasks.gated.delay("never opened")
        # Each library raises its own.
        assert type(result.get(timeout=_DEADLINE_S, propagate=False)).__name__ == error

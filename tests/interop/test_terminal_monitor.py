"""``pyworker events`` in a terminal without a terminal: keys and screens, on the events of real workers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyworker.compat import operate
from pyworker.events.monitor.app import Monitor
from support.kinds import FAST, OWN
from support.screens import screen_text
from support.stage import Stage
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from textual.pilot import Pilot

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
DEADLINE_S = 60.0
_LIBRARY = {FAST.name: "celery", OWN.name: "pyworker"}


@pytest.fixture(scope="module", params=[FAST, OWN], ids=lambda kind: kind.name)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A worker with one child, of an app of either library; the monitor's app is stock Celery's."""
    environment = {"TEST_LIBRARY": _LIBRARY[request.param.name]}
    with Stage(request.param, "either", options=("-c", "1", "-E"), environment=environment) as opened:
        yield opened


async def until(pilot: Pilot[None], *words: str) -> str:
    """Return the screen once it shows all the words."""
    end = time.monotonic() + DEADLINE_S
    while True:
        await pilot.pause(0.05)
        text = screen_text(pilot.app)
        if all(word in text for word in words):
            return text
        assert time.monotonic() < end, f"not shown: {[word for word in words if word not in text]}\n{text}"


def watching(
    stage: Stage, visit: Callable[[Pilot[None]], Awaitable[None]], *, size: tuple[int, int] = (150, 40)
) -> None:
    """Open the monitor and do what the visitor does."""

    async def run() -> None:
        async with Monitor(operate(stage.app)).run_test(size=(150, 40)) as pilot:
            # Another receiver is told of what follows as soon as the monitor subscribed: heartbeats show that.
            await until(pilot, stage.worker.node_name, "ONLINE")
            await visit(pilot)

    asyncio.run(run())


def test_workers_and_tasks_are_listed_with_their_details(stage: Stage) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        stage.tasks.add.apply_async((20, 22), task_id="listed-ok")
        await until(pilot, "listed-ok", "SUCCESS", "(20, 22)")
        stage.tasks.raising.apply_async(("for a reason",), task_id="listed-bad")
        await until(pilot, "listed-bad", "FAILURE")
        # The cursor stays on its task when others come above it.
        await pilot.press("i")
        shown = await until(pilot, "Task tasks.add", "listed-ok", "result", "42")
        assert "traceback" not in shown.partition("Task tasks.add")[2].partition("╰")[0]
        await pilot.press("escape", "k", "t")
        await until(pilot, "Traceback of tasks.raising", "ValueError: for a reason")
        await pilot.press("escape", "r")
        await until(pilot, "Result of tasks.raising", "ValueError('for a reason')")
        await pilot.press("escape", "w")
        await until(pilot, f"Worker {stage.worker.node_name}", "sw_ident", "task-succeeded", "task-failed")
        await pilot.press("q")
        await until(pilot, "q Quit", "listed-bad")

    watching(stage, visit)


def test_a_task_is_revoked_and_another_ended(stage: Stage) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        stage.tasks.gated.apply_async(("monitor",), task_id="to-be-ended")
        await until(pilot, "to-be-ended", "STARTED")
        await pilot.press("T")
        await until(pilot, "revoke: answers", "terminate: to-be-ended")
        await pilot.press("escape")
        await until(pilot, "to-be-ended", "REVOKED")
        stage.tasks.add.apply_async((1, 2), task_id="to-be-revoked", countdown=600)
        await until(pilot, "to-be-revoked", "RECEIVED")
        await pilot.press("k", "c")
        await until(pilot, "revoke: answers", "tasks {'to-be-revoked'} flagged as revoked")

    watching(stage, visit)
    assert "to-be-revoked" in stage.app.control.inspect(timeout=10, limit=1).revoked()[stage.worker.node_name]


def test_a_rate_limit_is_asked_for_and_set(stage: Stage) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        stage.tasks.mul.apply_async((1, 2), task_id="limited")
        await until(pilot, "limited", "SUCCESS")
        await pilot.press("l")
        await until(pilot, "Rate limit of tasks.mul")
        await pilot.press(*"100/m", "enter")
        await until(pilot, "rate_limit: answers", "new rate limit set successfully")
        await pilot.press("escape", "e")
        await until(pilot, "enable_events: answers", "task events already enabled")

    watching(stage, visit)
    registered: Any = stage.app.control.inspect(timeout=10, limit=1).registered("rate_limit")
    assert "tasks.mul [rate_limit=100/m]" in registered[stage.worker.node_name]


def test_without_textual_the_command_says_what_is_missing(stage: Stage) -> None:
    environment = worker_environment(broker=stage.server.url, backend=stage.server.url, lane="fast", extra={})
    program = "import sys; sys.modules['textual'] = None; from pyworker.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "-A", "either", "events"],
        env=environment, cwd=APPS, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'pyworker[tui]'" in done.stderr

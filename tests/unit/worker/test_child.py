"""The life of a child: which jobs it takes, what its signals mean, how it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pyworker.worker import child, child_signals
from pyworker.worker.child import EXIT_OK, EXIT_RECYCLE, exit_status, work
from pyworker.worker.child_signals import install_signal_handlers
from pyworker.worker.memory_limit import MemoryLimit

if TYPE_CHECKING:
    from collections.abc import Callable


class Link:
    """Hands out numbers as jobs."""

    def __init__(self, jobs: int = 0) -> None:
        self._jobs = list(range(jobs))
        self.is_retired = False
        self.is_marked = True
        self.is_put_off = False
        self.sequence = 1
        #: The sequences that were told when it was asked for them.
        self.told: list[int] = []

    def running(self) -> int:
        self.told.append(self.sequence)
        return self.sequence

    def next_job(self) -> Any:
        return None if self.is_retired or not self._jobs else self._jobs.pop(0)

    def retire(self) -> None:
        self.is_retired = True

    def set_put_off(self, put_off: bool) -> None:
        self.is_put_off = put_off

    def soft_timeout_hit(self) -> bool:
        return self.is_marked


class SoftLimit(Exception):
    """Stands for the library's SoftTimeLimitExceeded."""


class Runner:
    """Notes what it runs."""

    soft_time_limit_error = SoftLimit

    def __init__(self, action: Callable[[], None] = lambda: None) -> None:
        self.ran: list[Any] = []
        self._action = action

    def run(self, job: Any, _link: Any) -> None:
        self.ran.append(job)
        self._action()


def exit_of(body: Callable[[], int]) -> int:
    """Run in a forked process; return its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = body()
        except SystemExit as request:
            code = exit_status(request)
        except BaseException:
            logging.exception("in the forked process")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_jobs_are_run_until_there_are_no_more() -> None:
    runner = Runner()
    assert work(runner, Link(3)) == EXIT_OK  # type: ignore[arg-type]
    assert runner.ran == [0, 1, 2]


def test_memory_above_the_limit_ends_the_child_after_its_task(caplog: pytest.LogCaptureFixture) -> None:
    runner, link = Runner(), Link(3)
    assert work(runner, link, MemoryLimit(1)) == EXIT_RECYCLE  # type: ignore[arg-type]
    assert runner.ran == [0]
    assert link.is_retired
    assert "child process exiting after exceeding memory limit" in caplog.text


def test_memory_below_the_limit_changes_nothing() -> None:
    runner = Runner()
    assert work(runner, Link(3), MemoryLimit(1 << 40)) == EXIT_OK  # type: ignore[arg-type]
    assert runner.ran == [0, 1, 2]


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3), (-241, 15), (256, 0), ("text", 1), (True, 1)])
def test_exit_codes_mean_what_a_parent_sees(code: Any, status: int) -> None:
    assert exit_status(SystemExit(code)) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
def test_terminating_signals_run_finally_blocks(number: signal.Signals) -> None:
    def body() -> int:
        # Whoever started the tests may have had signals ignored, and what is ignored stays so.
        signal.signal(number, signal.SIG_DFL)
        install_signal_handlers(Link(), Runner())  # type: ignore[arg-type]
        try:
            os.kill(os.getpid(), number)
        finally:
            # What the parent sees if this block was not run is the signal itself.
            sys.stdout.flush()
        return 98

    assert exit_of(body) == number


def test_what_the_library_ignores_stays_ignored() -> None:
    def body() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        install_signal_handlers(Link(), Runner())  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        return 7

    assert exit_of(body) == 7


def test_remapped_term_is_ignored_and_quit_terminates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")

    def body() -> int:
        install_signal_handlers(Link(), Runner())  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGQUIT)
        return 98

    assert exit_of(body) == signal.SIGQUIT


def test_soft_limit_is_raised_in_the_marked_task_only() -> None:
    def body() -> int:
        link = Link()
        install_signal_handlers(link, Runner())  # type: ignore[arg-type]
        link.is_marked = False
        os.kill(os.getpid(), signal.SIGUSR1)
        link.is_marked = True
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
        except SoftLimit:
            return 5
        return 98

    assert exit_of(body) == 5


class LockHitBySignal:
    """A lock as ``threading.Condition`` uses it; a signal comes when it was just taken."""

    def __init__(self, number: int) -> None:
        self.is_released = False
        self.acquire = self.release = lambda: None
        # Conditions look this up on the instance; no code of Python's runs between them and the handler.
        self.__enter__ = partial(os.kill, os.getpid(), number)

    def __exit__(self, *_details: object) -> None:
        self.is_released = True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_no_lock_is_lost_to_a_signal(number: signal.Signals) -> None:
    def body() -> int:
        link = Link()
        install_signal_handlers(link, Runner())  # type: ignore[arg-type]
        lock = LockHitBySignal(number)
        try:
            with threading.Condition(lock):  # type: ignore[arg-type]
                # What was put off comes soon.
                threading.Event().wait()
        except (SystemExit, SoftLimit):
            return 5 if lock.is_released and not link.is_put_off else 97
        return 98

    assert exit_of(body) == 5


def test_a_child_that_does_not_get_to_its_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_signals, "_LEAVING_S", 0.05)

    def body() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        install_signal_handlers(Link(), Runner())  # type: ignore[arg-type]
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            threading.Event().wait()
        return 98

    assert exit_of(body) == signal.SIGTERM


def test_a_task_that_caught_the_signal_is_not_paid_for_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_signals, "_LEAVING_S", 0.05)

    def body() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        link = Link()
        install_signal_handlers(link, Runner())  # type: ignore[arg-type]
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            link.sequence += 1
        while link.told != [1, 2]:
            time.sleep(0.005)
        return 5

    assert exit_of(body) == 5


class App:
    """An application whose children do what the test says."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._runner = Runner(action)

    def child_started(self, _link: Any, index: int) -> Runner:
        assert index == 4
        assert sys.stdin.read() == ""
        return self._runner

    def child_stopping(self, pid: int, exitcode: int) -> None:
        assert pid == os.getpid()
        os.write(2, b"")
        if exitcode == 3:
            raise SystemExit(33)


@pytest.mark.parametrize(
    ("action", "code"), [(lambda: None, 0), (lambda: sys.exit(4), 4), (lambda: sys.exit(3), 33), (lambda: 1 // 0, 1)]
)
def test_run_child_says_goodbye_however_it_ends(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], None], code: int
) -> None:
    monkeypatch.setattr(child, "ChildLink", lambda *_: Link(2))
    assert exit_of(lambda: child.run_child(App(action), 4, -1, -1)) == code  # type: ignore[arg-type]

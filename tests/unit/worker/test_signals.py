"""The signal inbox: handlers leave a note, wake the loop, and are put back."""

from __future__ import annotations

import inspect
import os
import signal

import pytest

from pyworker.worker.signals import SignalInbox, all_stacks, say


@pytest.fixture
def woken() -> list[int]:
    return []


@pytest.fixture
def inbox(woken: list[int]) -> SignalInbox:
    return SignalInbox(lambda: woken.append(1))


def test_signals_are_noted_in_order_and_wake_the_loop(inbox: SignalInbox, woken: list[int]) -> None:
    inbox.install(restarts=True)
    try:
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"):
            signal.raise_signal(getattr(signal, name))
    finally:
        inbox.restore()
    assert len(woken) == 4
    assert inbox.take() == ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
    assert inbox.take() == []


def test_restore_puts_the_old_handlers_back(inbox: SignalInbox) -> None:
    names = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
    before = [signal.getsignal(getattr(signal, name)) for name in names]
    inbox.install(restarts=True, debugger=lambda _frame: None)
    inbox.restore()
    inbox.restore()
    assert [signal.getsignal(getattr(signal, name)) for name in names] == before


def test_hangup_is_left_alone_on_a_terminal(inbox: SignalInbox) -> None:
    before = signal.getsignal(signal.SIGHUP)
    inbox.install(restarts=False)
    try:
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        inbox.restore()


def test_debugger_gets_the_interrupted_frame(inbox: SignalInbox) -> None:
    frames: list[object] = []
    inbox.install(restarts=False, debugger=frames.append)
    try:
        signal.raise_signal(signal.SIGUSR2)
    finally:
        inbox.restore()
    assert frames[0].f_code.co_name == "test_debugger_gets_the_interrupted_frame"  # type: ignore[attr-defined]


def test_usr1_writes_all_stacks_to_stderr(inbox: SignalInbox, capfd: pytest.CaptureFixture[str]) -> None:
    a_local_variable = "seen in the dump"
    inbox.install(restarts=False)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        inbox.restore()
    dump = capfd.readouterr().err
    assert "MainThread" in dump
    assert "LOCAL VARIABLES" in dump
    assert a_local_variable in dump


def test_stacks_name_this_function() -> None:
    assert "test_stacks_name_this_function" in all_stacks()


def test_say_survives_a_closed_stream() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    say("nobody hears this", descriptor=writer)
    os.close(writer)
    say("nor this", descriptor=writer)


def test_stacks_of_what_cannot_show_itself() -> None:
    """A signal may come while an object is being made; what it interrupted goes on."""

    class HalfMade:
        def __repr__(self) -> str:
            return self.missing  # type: ignore[attr-defined,no-any-return]

    half_made, whole = HalfMade(), "still shown"
    text = all_stacks(inspect.currentframe())
    assert "<HalfMade that cannot be shown: AttributeError>" in text
    assert f"whole: {whole!r}" in text
    del half_made

"""The stop signals' state machine, with effects that only write down what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pyworker.worker.shutdown import (
    INTERRUPT_TERMINATES,
    SECOND_INTERRUPT_IS_COLD,
    WAITING_FOR_COLD,
    Phase,
    Shutdown,
    ShutdownPolicy,
)

WARM_TEXT = "worker: Warm shutdown (MainProcess)"
COLD_TEXT = "worker: Cold shutdown (MainProcess)"


@dataclass
class Diary:
    """Effects and clock."""

    busy: bool = True
    time_s: float = 0.0
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    announced: list[tuple[str, str, int]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def announce(self, signal_name: str, how: str, exit_code: int) -> None:
        self.announced.append((signal_name, how, exit_code))

    def stop_consuming(self) -> None:
        self.done.append("stop consuming")

    def cancel_running(self) -> None:
        self.done.append("cancel")

    def is_busy(self) -> bool:
        return self.busy

    def now(self) -> float:
        return self.time_s


def machine(diary: Diary, **policy: float | bool) -> Shutdown:
    return Shutdown(diary, ShutdownPolicy(**policy), diary.now)  # type: ignore[arg-type]


def test_term_is_warm_and_further_terms_only_say_so_again() -> None:
    diary = Diary()
    shutdown = machine(diary)
    for _time in range(3):
        shutdown.on_signal("SIGTERM")
    assert shutdown.phase is Phase.WARM
    assert shutdown.exit_code == 0
    assert diary.said == [WARM_TEXT] * 3
    assert diary.announced == [("SIGTERM", "Warm", 0)] * 3
    assert diary.done == ["stop consuming"]


def test_first_interrupt_is_warm_and_the_exit_code_is_failure() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.on_signal("SIGINT")
    assert shutdown.phase is Phase.WARM
    assert shutdown.exit_code == 1
    assert diary.said == [SECOND_INTERRUPT_IS_COLD, WARM_TEXT]
    assert diary.announced == [("SIGINT", "Warm", 1)]


def test_second_interrupt_is_cold_and_does_not_repeat_the_headline() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.on_signal("SIGINT")
    shutdown.on_signal("SIGINT")
    assert shutdown.phase is Phase.COLD
    assert diary.said == [SECOND_INTERRUPT_IS_COLD, WARM_TEXT, INTERRUPT_TERMINATES]
    assert diary.announced[-1] == ("SIGINT", "Cold", 1)
    assert diary.done == ["stop consuming", "stop consuming", "cancel"]
    assert shutdown.exit_code == 1


def test_interrupt_after_term_warns_first_and_keeps_the_exit_code() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.on_signal("SIGTERM")
    shutdown.on_signal("SIGINT")
    assert shutdown.phase is Phase.WARM
    shutdown.on_signal("SIGINT")
    assert shutdown.phase is Phase.COLD
    assert shutdown.exit_code == 0


def test_quit_is_cold_at_once_and_exits_as_upstream() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.on_signal("SIGQUIT")
    assert shutdown.phase is Phase.COLD
    assert diary.said == [INTERRUPT_TERMINATES, COLD_TEXT]
    assert diary.announced == [("SIGQUIT", "Cold", 1)]
    # Celery's worker leaves its exit code unset here, and the process ends with 0.
    assert shutdown.exit_code == 0


def test_remapped_term_is_cold() -> None:
    diary = Diary()
    shutdown = machine(diary, term_is_cold=True)
    shutdown.on_signal("SIGTERM")
    assert shutdown.phase is Phase.COLD
    assert diary.announced == [("SIGTERM", "Cold", 1)]


def test_soft_shutdown_waits_for_its_time_before_it_cancels() -> None:
    diary = Diary()
    shutdown = machine(diary, soft_timeout_s=10.0)
    shutdown.on_signal("SIGQUIT")
    assert shutdown.phase is Phase.SOFT
    assert diary.warned == ["Initiating Soft Shutdown, terminating in 10.0 seconds"]
    assert diary.done == ["stop consuming"]
    assert shutdown.seconds_to_tick() == 10.0
    diary.time_s = 9.9
    shutdown.tick()
    assert shutdown.phase is Phase.SOFT
    diary.time_s = 10.0
    shutdown.tick()
    assert shutdown.phase is Phase.COLD
    assert diary.done == ["stop consuming", "cancel"]
    assert diary.said == [INTERRUPT_TERMINATES, COLD_TEXT]


def test_soft_shutdown_ends_early_when_the_tasks_are_done() -> None:
    diary = Diary()
    shutdown = machine(diary, soft_timeout_s=10.0)
    shutdown.on_signal("SIGQUIT")
    diary.busy = False
    shutdown.tick()
    assert shutdown.phase is Phase.COLD


@pytest.mark.parametrize(("soft_on_idle", "phase"), [(False, Phase.COLD), (True, Phase.SOFT)])
def test_idle_worker_skips_the_soft_wait_unless_told_otherwise(soft_on_idle: bool, phase: Phase) -> None:
    diary = Diary(busy=False)
    shutdown = machine(diary, soft_timeout_s=10.0, soft_on_idle=soft_on_idle)
    shutdown.on_signal("SIGQUIT")
    shutdown.tick()
    assert shutdown.phase is phase


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_stop_signal_during_the_soft_wait_cancels_and_the_next_leaves(name: str) -> None:
    diary = Diary()
    shutdown = machine(diary, soft_timeout_s=10.0)
    shutdown.on_signal("SIGQUIT")
    shutdown.on_signal(name)
    assert shutdown.phase is Phase.SOFT
    assert diary.done == ["stop consuming", "cancel"]
    assert WAITING_FOR_COLD in diary.said
    shutdown.on_signal(name)
    assert shutdown.phase is Phase.HARD
    assert shutdown.exit_code == 1


def test_term_never_shortens_a_cold_shutdown() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.on_signal("SIGQUIT")
    for _time in range(3):
        shutdown.on_signal("SIGTERM")
    assert shutdown.phase is Phase.COLD


def test_request_of_remote_control_is_warm_and_silent() -> None:
    diary = Diary()
    shutdown = machine(diary)
    shutdown.request_warm(3)
    shutdown.request_warm(4)
    assert shutdown.phase is Phase.WARM
    assert shutdown.exit_code == 3
    assert diary.said == []
    assert diary.announced == []

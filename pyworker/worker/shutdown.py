"""How a worker stops: the rules of Celery's stop signals as a state machine without signals, threads or clocks.

::

    RUNNING --TERM, first INT, request--> WARM --second INT, QUIT--> SOFT --time over or idle--> COLD
       |                                                              |  ^                        |
       '--QUIT (TERM with REMAP_SIGTERM=SIGQUIT)----------------------'  '--INT, QUIT: cancel-----'--again--> HARD

``SOFT`` is skipped unless ``worker_soft_shutdown_timeout`` is set and something runs. WARM: nothing is fetched,
running tasks finish. SOFT: the same with a time limit. COLD: running tasks are cancelled. HARD: leave at once.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_OK = 0
EXIT_FAILURE = 1

SECOND_INTERRUPT_IS_COLD = "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!"
INTERRUPT_TERMINATES = "worker: Hitting Ctrl+C again will terminate all running tasks!"
WAITING_FOR_COLD = "Waiting gracefully for cold shutdown to complete..."


class Phase(IntEnum):
    """How far the shutdown has gone; it never goes back."""

    RUNNING = 0
    WARM = 1
    SOFT = 2
    COLD = 3
    HARD = 4


@dataclass(frozen=True, kw_only=True)
class ShutdownPolicy:
    """The settings that shape a shutdown."""

    #: ``worker_soft_shutdown_timeout``; 0 is off.
    soft_timeout_s: float = 0.0
    #: ``worker_enable_soft_shutdown_on_idle``.
    soft_on_idle: bool = False
    #: ``REMAP_SIGTERM=SIGQUIT`` in the environment.
    term_is_cold: bool = False


def term_is_remapped() -> bool:
    """Whether the environment turns SIGTERM into a cold shutdown."""
    return os.environ.get("REMAP_SIGTERM") == "SIGQUIT"


def termination_signal() -> int:
    """The signal that ends a child; where TERM is remapped, children ignore it."""
    return int(getattr(signal, os.environ.get("REMAP_SIGTERM") or "SIGTERM"))


class ShutdownEffects(Protocol):
    """What the state machine does to the worker."""

    def say(self, text: str) -> None:
        """Tell the person at the terminal."""

    def warn(self, text: str) -> None:
        """Log a warning."""

    def announce(self, signal_name: str, how: str, exit_code: int) -> None:
        """Tell the application (``worker_shutting_down``)."""

    def stop_consuming(self) -> None:
        """Fetch nothing more, hand back what has not started."""

    def cancel_running(self) -> None:
        """Cancel the tasks that run now."""

    def is_busy(self) -> bool:
        """Whether a task runs."""


class Shutdown:
    """The state machine. One thread calls it; a signal handler only notes the signal's name."""

    def __init__(self, effects: ShutdownEffects, policy: ShutdownPolicy, now: Callable[[], float]) -> None:
        self._effects = effects
        self._policy = policy
        self._now = now
        self._interrupts = 0
        self._cold_signals = 0
        self._soft_deadline: float | None = None
        self._cold_signal_name = ""
        self._cold_is_silent = False
        self.phase = Phase.RUNNING
        #: The process's exit code so far. A cold shutdown leaves what a warm one before it has set, as upstream.
        self.exit_code = EXIT_OK

    def on_signal(self, name: str) -> None:
        """React to SIGTERM, SIGINT or SIGQUIT; anything else is ignored."""
        if name == "SIGTERM" and not self._policy.term_is_cold:
            if self.phase <= Phase.WARM:
                self._warm(name, EXIT_OK)
        elif name == "SIGINT" and self.phase <= Phase.WARM:
            self._on_interrupt()
        elif name in ("SIGTERM", "SIGQUIT") and self.phase <= Phase.WARM:
            self._cold(name)
        elif name in ("SIGTERM", "SIGINT", "SIGQUIT"):
            self._on_impatience(name)

    def request_warm(self, exit_code: int = EXIT_OK) -> None:
        """Stop warmly without a signal: remote control, a restart, a fatal error. Says nothing."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.WARM
            self.exit_code = exit_code
            self._effects.stop_consuming()

    def tick(self) -> None:
        """Let time pass: ends the soft wait when it is over or pointless."""
        if self.phase is not Phase.SOFT or self._soft_deadline is None:
            return
        if self._now() >= self._soft_deadline or not (self._effects.is_busy() or self._policy.soft_on_idle):
            self._finish_cold()

    def seconds_to_tick(self) -> float | None:
        """When :meth:`tick` wants to be called at the latest; ``None`` if it need not be."""
        return None if self._soft_deadline is None else max(0.0, self._soft_deadline - self._now())

    def _on_interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            self._cold("SIGINT", is_silent=True)
            return
        self._effects.say(SECOND_INTERRUPT_IS_COLD)
        self._warm("SIGINT", EXIT_FAILURE)

    def _warm(self, signal_name: str, exit_code: int) -> None:
        """Again only said, when it has begun: the first exit code stays."""
        self._announce(signal_name, "Warm", exit_code)
        self.request_warm(exit_code)

    def _cold(self, signal_name: str, *, is_silent: bool = False) -> None:
        self._cold_signal_name = signal_name
        self._cold_is_silent = is_silent
        self._effects.say(INTERRUPT_TERMINATES)
        self._effects.stop_consuming()
        self.phase = Phase.SOFT
        timeout_s = self._policy.soft_timeout_s
        if timeout_s > 0 and (self._policy.soft_on_idle or self._effects.is_busy()):
            self._effects.warn(f"Initiating Soft Shutdown, terminating in {timeout_s} seconds")
            self._soft_deadline = self._now() + timeout_s
        else:
            self._finish_cold()

    def _finish_cold(self) -> None:
        self._soft_deadline = None
        self.phase = Phase.COLD
        self._effects.cancel_running()
        self._announce(self._cold_signal_name, "Cold", EXIT_FAILURE, is_silent=self._cold_is_silent)

    def _on_impatience(self, name: str) -> None:
        """A stop signal after the cold shutdown began: cancel now, then leave."""
        self._cold_signals += 1
        if self._cold_signals > 1:
            self.phase = Phase.HARD
            self.exit_code = self.exit_code or EXIT_FAILURE
            return
        self._effects.cancel_running()
        self._effects.say(WAITING_FOR_COLD)
        self._announce(name, "Cold", EXIT_FAILURE)

    def _announce(
        self, signal_name: str, how: Literal["Warm", "Cold"], exit_code: int, *, is_silent: bool = False
    ) -> None:
        if not is_silent:
            self._effects.say(f"worker: {how} shutdown (MainProcess)")
        self._effects.announce(signal_name, how, exit_code)

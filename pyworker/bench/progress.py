"""Shows how far a measurement is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

_LINE_INTERVAL_S = 5.0


class Reporter(Protocol):
    """Told what is going on."""

    def phase(self, text: str, total: int | None = None) -> None:
        """A new phase begins."""

    def advance(self, done: int) -> None:
        """So much of the phase is done."""


class ConsoleReporter:
    """Reports on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._text = ""
        self._total: int | None = None
        self._last_line_at = 0.0

    def __enter__(self) -> ConsoleReporter:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=self._console, transient=True, refresh_per_second=4,
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def phase(self, text: str, total: int | None = None) -> None:
        """Begin a phase."""
        self._text, self._total = text, total
        self._last_line_at = time.monotonic()
        if self._bar is None:
            self._console.print(text, highlight=False)
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(text, total=total)

    def advance(self, done: int) -> None:
        """Update the bar, or print a line if the last one is old."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._last_line_at >= _LINE_INTERVAL_S:
            self._last_line_at = time.monotonic()
            of_total = f" of {self._total}" if self._total else ""
            self._console.print(f"{self._text}: {done}{of_total}", highlight=False)

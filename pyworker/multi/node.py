"""One node of ``multi``: its command line, its pid file, its process."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyworker.multi.process import Process
from pyworker.worker.node_name import expand, expand_host, split_node_name
from pyworker.worker.pidfile import Pidfile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyworker.multi.options import Options

_PIDFILE = "/var/run/celery/%n.pid"
_LOGFILE = "/var/log/celery/%n%I.log"
#: Options that stand before the word ``worker``.
_GLOBAL = frozenset(
    (
        *("-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"),
        *("-C", "--no-color", "-q", "--quiet", "--skip-checks"),
    )
)
_PATHS = frozenset(("--pidfile", "-p", "--logfile", "-f", "--workdir"))


class Node:
    """A node.

    Args:
        name: its full name.
        options: those of its worker, by name.
        command: what starts it, ``{interpreter} -m pyworker worker --detach`` without it.
        append: a text to add at the end.
        passthrough: words to add at the end.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        *,
        command: str | None = None,
        append: str = "",
        passthrough: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._append = append
        self._passthrough = list(passthrough)
        self._options: Options = {**options, "-n": name}
        self._set_path(("--pidfile", "-p"), _PIDFILE)
        self._set_path(("--logfile", "-f"), _LOGFILE)
        self._options.setdefault("--executable", sys.executable)

    def _set_path(self, names: Sequence[str], default: str) -> None:
        if not any(name in self._options for name in names):
            self._options[names[0]] = default

    def make_directories(self) -> None:
        """Make the directories of the pid file and the log file.

        Raises:
            OSError: one cannot be made.
        """
        for path in (self.pidfile, self._path(("--logfile", "-f"))):
            Path(path).parent.mkdir(parents=True, exist_ok=True)

    # -- names

    def expand(self, text: str) -> str:
        """Expand ``%n`` ``%N`` ``%h`` ``%p`` ``%d``; ``%i`` and ``%I`` are left for the worker.

        Raises:
            ValueError: an abbreviation is unknown.
        """
        short, host = split_node_name(self.name)
        values = {"n": short or "", "N": short or "", "h": self.name, "p": self.name, "d": host}
        return expand(text, {**values, "i": "%i", "I": "%I"})

    def _path(self, names: Sequence[str]) -> str:
        given = next(self._options[name] for name in names if name in self._options) or ""
        # The worker expands the index; the parent's is nothing.
        return expand(os.path.expanduser(self.expand(given)), {"i": "0", "I": ""})

    @property
    def pidfile(self) -> str:
        """Path of the pid file."""
        return self._path(("--pidfile", "-p"))

    @property
    def executable(self) -> str:
        """The interpreter."""
        return self._options["--executable"] or sys.executable

    @property
    def arguments(self) -> list[str]:
        """Everything after the interpreter."""
        before, after = shlex.split(self.expand(self._command)) if self._command else ["-m", "pyworker"], []
        if not self._command:
            after = ["worker", "--detach"]
        elif "worker" in before:
            position = before.index("worker")
            before, after = before[:position], before[position:]
        for option, value in self._options.items():
            words = self._words(option, value)
            (before if option in _GLOBAL else after).extend(words)
        after += [self.expand(word) for word in self._passthrough]
        return [*before, *after, *shlex.split(self.expand(self._append))]

    def _words(self, option: str, value: str | None) -> list[str]:
        if value is None or value == "":
            return [option]
        expanded = self.expand(value)
        if option in _PATHS:
            expanded = os.path.expanduser(expanded)
        return [f"{option}={expanded}"] if option.startswith("--") else [option, expanded]

    # -- life

    @property
    def process(self) -> Process | None:
        """The process that its pid file names now, ``None`` without one."""
        try:
            pid = Pidfile(self.pidfile).read()
        except ValueError:
            return None
        return Process(pid) if pid else None

    def start(self, on_spawn: Callable[[Sequence[str]], object]) -> int:
        """Start it and return the exit code of the detaching command; negative a signal.

        Raises:
            OSError: a directory cannot be made, or the interpreter cannot be started.
        """
        self.make_directories()
        command = [self.executable, *self.arguments]
        on_spawn(command)
        return subprocess.run(command, check=False).returncode


def full_name(name: str, prefix: str, suffix: str) -> str:
    """A node's full name from what was given.

    Args:
        name: with or without a host.
        prefix: put before a name without a host.
        suffix: its host.
    """
    return expand_host(name if "@" in name else f"{prefix}{name}@{suffix}")


def signal_number(text: str) -> int | None:
    """A signal from ``-9``, ``-KILL`` or ``-SIGKILL``, ``None`` if it is none."""
    word = text[1:] if text.startswith("-") else ""
    if word.isdigit():
        return int(word)
    try:
        return int(signal.Signals[word if word.startswith("SIG") else f"SIG{word}"])
    except KeyError:
        return None

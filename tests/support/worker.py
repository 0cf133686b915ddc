"""A worker process under test: started, listened to, signalled, and always ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.processes import children_of, descendants_of, is_alive
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from support.kinds import Kind

APPS = Path(__file__).resolve().parent.parent / "apps"
_in_use: list[WorkerProcess] = []
READY = r"(\S+@\S+) ready\.$"


def worker_environment(*, broker: str, backend: str, lane: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: ours, without what would change Celery's behaviour."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "DJANGO"))}
    environment |= {
        "TEST_BROKER_URL": broker,
        "TEST_RESULT_BACKEND": backend,
        "TEST_LANE": lane,
        "PYTHONPATH": os.pathsep.join([str(APPS), *filter(None, [environment.get("PYTHONPATH", "")])]),
        "PYTHONUNBUFFERED": "1",
        "C_FORCE_ROOT": "1",
    }
    return environment | dict(extra)


def workers_in_use() -> list[WorkerProcess]:
    """Return the workers that were started and not closed yet."""
    return list(_in_use)


class WorkerProcess:
    """A worker with its output read line by line as it comes.

    Args:
        kind: engine and lane.
        app: what ``-A`` names, a module of ``tests/apps``.
        broker, backend: URLs handed to the app through its environment.
        options: further options after ``worker``.
        environment: further environment variables.
    """

    def __init__(
        self,
        kind: Kind,
        app: str,
        *,
        broker: str,
        backend: str | None = None,
        options: Iterable[str] = ("-c", "2"),
        environment: Mapping[str, str] | None = None,
        loglevel: str = "INFO",
        directory: Path = APPS,
    ) -> None:
        self.kind = kind
        self._command = [*kind.command, "-A", app, "worker", "-l", loglevel, *options]
        self._environment = worker_environment(
            broker=broker, backend=backend or broker, lane=kind.lane, extra=environment or {}
        )
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._news = threading.Condition()
        self._lines: list[str] = []
        self._is_closed = False

    # -- life

    def start(self, *, is_ready: bool = True, deadline_s: float = 40.0) -> Self:
        """Start the process; with ``is_ready`` return when it logged that it consumes."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            cwd=self._directory,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        _in_use.append(self)
        self._reader = threading.Thread(target=self._read, daemon=True, name=f"output of {self._process.pid}")
        self._reader.start()
        if is_ready:
            self.wait_for_line(READY, deadline_s=deadline_s)
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._news:
                    self._lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        assert self._process is not None, "the worker was not started"
        return self._process.pid

    @property
    def description(self) -> str:
        """What this is, for failure reports."""
        return f"{self.kind.name} (process {self.pid}): {' '.join(self._command[1:])}"

    @property
    def node_name(self) -> str:
        """The name the worker announced when it was ready."""
        return self.wait_for_line(READY).group(1)

    @property
    def is_running(self) -> bool:
        """Whether the main process lives."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        os.kill(self.pid, number)

    def wait(self, *, deadline_s: float = 30.0) -> int:
        """Wait for the main process's end and the end of its output; return the exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"worker did not end within {deadline_s} s\n{self.log}") from None
        assert self._reader is not None
        self._reader.join(timeout=5)
        return code

    def stop(self, *, deadline_s: float = 30.0) -> int:
        """Ask for a warm shutdown and return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(deadline_s=deadline_s)

    def kill(self) -> None:
        """SIGKILL the main process alone, as the kernel's memory killer does, and wait for it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def kill_all(self) -> None:
        """SIGKILL every process of the worker, the main one first, and return when none is left."""
        assert self._process is not None
        family = self.family()
        for pid in family:
            # The others end by themselves when the main process is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=60)
        self.wait_until_gone(family[1:], deadline_s=60)

    def close(self) -> None:
        """End the worker and whatever it left behind; warm first, so that a clean stop stays the normal path."""
        if self._process is None:
            return
        if self in _in_use:
            _in_use.remove(self)
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._kill_session()
        self._kill_session()
        self._process.wait(timeout=10)
        if self._reader is not None:
            self._reader.join(timeout=5)

    def _kill_session(self) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    # -- output

    @property
    def lines(self) -> list[str]:
        """All lines so far."""
        with self._news:
            return list(self._lines)

    @property
    def log(self) -> str:
        """All output so far."""
        return "\n".join(self.lines)

    def mark(self) -> int:
        """Return a position in the output for ``after``."""
        with self._news:
            return len(self._lines)

    def lines_after(self, position: int) -> list[str]:
        """Return the lines since a position."""
        return self.lines[position:]

    def wait_for_line(self, pattern: str, *, deadline_s: float = 20.0, after: int = 0) -> re.Match[str]:
        """Return the first match of ``pattern`` in a line since ``after``, waiting for it if need be."""
        expression = re.compile(pattern)
        end = time.monotonic() + deadline_s
        position = after
        with self._news:
            while True:
                while position < len(self._lines):
                    match = expression.search(self._lines[position])
                    if match:
                        return match
                    position += 1
                left_s = end - time.monotonic()
                if self._is_closed or left_s <= 0 or not self._news.wait(left_s):
                    how = "the worker ended" if self._is_closed else f"{deadline_s} s passed"
                    raise AssertionError(f"{how} without a line like {pattern!r}; output:\n" + "\n".join(self._lines))

    # -- processes

    def helpers(self) -> list[int]:
        """Return the direct children of the main process."""
        return children_of(self.pid)

    def family(self) -> list[int]:
        """Return all processes of the worker, the main one first."""
        return [self.pid, *descendants_of(self.pid)]

    def wait_until_gone(self, pids: Iterable[int], *, deadline_s: float = 20.0) -> None:
        """Return when none of the processes lives."""
        watched = list(pids)
        eventually(
            lambda: not any(is_alive(pid) for pid in watched), deadline_s=deadline_s, what=f"processes {watched} gone"
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Worker processes with their logs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from pyworker.bench import processes
from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pyworker.bench.peers.base import Peer
    from pyworker.bench.settings import AppSettings

_STOP_DEADLINE_S = 30.0
_LOG_TAIL_BYTES = 4000


class ChildProcess:
    """Runs a command with its log in a file; kills what is left of its processes on exit."""

    def __init__(self, command: list[str], environment: dict[str, str], log_path: str) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def __enter__(self) -> Self:
        self.started_at = time.monotonic()
        with open(self._log_path, "wb") as log:
            # A session of its own: Ctrl-C reaches the bench, which then stops the worker.
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            for pid in reversed(processes.tree(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        assert self._process is not None
        return self._process.pid

    def ensure_running(self) -> None:
        """Raise BenchError with the end of the log if the process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchError(f"the worker ended with exit code {self._process.returncode}:\n{self.log_tail()}")

    def stop(self) -> tuple[int, float]:
        """Stop it as an operator would, with SIGTERM; return exit code and seconds."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the worker ignores SIGTERM for {_STOP_DEADLINE_S:.0f} s:\n{self.log_tail()}") from None
        return code, time.monotonic() - begun

    def log_tail(self) -> str:
        """Return the last lines that were written."""
        with open(self._log_path, "rb") as log:
            log.seek(max(os.path.getsize(self._log_path) - _LOG_TAIL_BYTES, 0))
            return log.read().decode(errors="replace")


class WorkerProcess(ChildProcess):
    """A peer's worker."""

    def __init__(
        self, peer: Peer, settings: AppSettings, *, concurrency: int, pool: str, loglevel: str, log_path: str
    ) -> None:
        super().__init__(
            peer.worker_command(settings, concurrency, pool, loglevel), settings.to_environment(), log_path
        )

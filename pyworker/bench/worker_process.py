"""The worker under test as a process with its log."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from pyworker.bench import processes
from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from types import TracebackType

    from pyworker.bench.peers.base import Peer
    from pyworker.bench.settings import AppSettings

_STOP_DEADLINE_S = 30.0


class WorkerProcess:
    """Starts a peer's worker on entry; kills what is left of it on exit."""

    def __init__(self, peer: Peer, settings: AppSettings, *, concurrency: int, pool: str, loglevel: str) -> None:
        self._command = peer.worker_command(settings, concurrency, pool, loglevel)
        self._environment = {**os.environ, **settings.to_environment()}
        self._log = tempfile.TemporaryFile(mode="w+b")
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def __enter__(self) -> WorkerProcess:
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            for pid in reversed(processes.tree(self._process.pid)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        """Process id of the worker's main process."""
        assert self._process is not None
        return self._process.pid

    def ensure_running(self) -> None:
        """Raise BenchError with the end of the log if the worker has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchError(f"the worker ended with exit code {self._process.returncode}:\n{self.log_tail()}")

    def stop(self) -> tuple[int, float]:
        """Stop the worker as an operator would, with SIGTERM; return exit code and seconds."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the worker ignores SIGTERM for {_STOP_DEADLINE_S:.0f} s:\n{self.log_tail()}") from None
        return code, time.monotonic() - begun

    def log_tail(self) -> str:
        """Return the last lines that the worker wrote."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._log.tell() - 4000, 0))
        return self._log.read().decode(errors="replace")

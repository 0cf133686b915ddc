"""A stage whose broker and result store are one SQLite file; journals and gates are on its Redis server."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from support.stage import Stage, load_app

if TYPE_CHECKING:
    from typing_extensions import Self

    from support.kinds import Kind
    from support.worker import WorkerProcess


class SqliteStage(Stage):
    """A file of its own, workers on it and the app as its producers see it."""

    def __init__(self, kind: Kind, app: str = "either", **settings: Any) -> None:
        super().__init__(kind, app, **settings)
        self._directory = tempfile.TemporaryDirectory(prefix="pyworker-sqlite-")
        self.url = f"sqlite:///{self._directory.name}/queue.db"

    def new_worker(self, kind: Kind | None = None, **changes: Any) -> WorkerProcess:
        """Return a further worker of the same app, not started; it ends with the stage."""
        return super().new_worker(kind, **({"broker": self.url, "backend": self.url} | changes))

    def open(self, *, has_worker: bool = True) -> Self:
        """Start the server if it is ours, load the app and, by default, start a worker."""
        self.server.start()
        self._environment["TEST_JOURNAL_URL"] = self.server.url
        self._module = load_app(self.app_name, broker=self.url)
        if has_worker:
            self.new_worker().start()
        return self

    def close(self) -> None:
        """End the workers and the server, remove the file."""
        super().close()
        self._directory.cleanup()

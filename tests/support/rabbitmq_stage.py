"""A stage whose broker is RabbitMQ; results, journals and gates are on its Redis server."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from support.rabbitmq_server import RabbitmqHost
from support.stage import Stage, load_app
from support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

    from support.kinds import Kind
    from support.rabbitmq_private import PrivateHost
    from support.worker import WorkerProcess


class RabbitmqStage(Stage):
    """One virtual host and one Redis server, workers on them and the app as its producers see it."""

    def __init__(
        self, kind: Kind, app: str = "tasks", *, host: RabbitmqHost | PrivateHost | None = None, **settings: Any
    ) -> None:
        super().__init__(kind, app, **settings)
        self._given = host

    @cached_property
    def host(self) -> Any:
        """The virtual host; one of its own on the run's node by default."""
        return self._given or RabbitmqHost()

    def new_worker(self, kind: Kind | None = None, **changes: Any) -> WorkerProcess:
        """Return a further worker of the same app, not started; it ends with the stage."""
        return super().new_worker(kind, **({"broker": self.host.url, "backend": self.server.url} | changes))

    def open(self, *, has_worker: bool = True) -> Self:
        """Make the virtual host, start the server if it is ours, load the app and, by default, start a worker."""
        self.host.start()
        self.server.start()
        self._environment["TEST_JOURNAL_URL"] = self.server.url
        self._module = load_app(self.app_name, broker=self.host.url, backend=self.server.url)
        if has_worker:
            self.new_worker().start()
        return self

    def close(self) -> None:
        """End the workers, the servers and the virtual host."""
        super().close()
        self.host.close()

    def queue_length(self, name: str = "celery") -> int:
        """Return how many messages are ready in a queue."""
        return self.host.waiting(name)

    def wait_until_drained(self, name: str = "celery", *, deadline_s: float = 30.0) -> None:
        """Return when the queue is empty and nothing is held."""
        eventually(lambda: self.host.is_drained(name), deadline_s=deadline_s, what=f"{name} drained")

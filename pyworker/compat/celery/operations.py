"""A ``celery.Celery`` application under the hands of its operator: Celery's own client does the talking."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import celery
from celery.app.utils import bugreport
from celery.events.snapshot import evcam
from celery.worker.control import Panel

from pyworker.operations.protocol import RemoteCommand
from pyworker.redacting import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyworker.operations.protocol import Snapshots

_SYMBOLS = ("Task", "chord", "group", "chain", "chunks", "xmap", "xstarmap", "subtask", "signature")


class CeleryOperations:
    """Operations on a Celery application.

    Args:
        app: a ``celery.Celery``, or a proxy of one.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.control = app.control
        self.events = app.events

    def remote_commands(self) -> Mapping[str, RemoteCommand]:
        """Celery's panel, with what the application's own modules added to it."""
        return {
            name: RemoteCommand(
                name=name,
                kind=info.type,
                help=info.help or "",
                signature=info.signature or "",
                arguments=tuple(info.args or ()),
                variadic=info.variadic,
            )
            for name, info in sorted(Panel.meta.items())
            if info.visible
        }

    def load_tasks(self) -> None:
        """Import what the worker imports."""
        self._app.loader.import_default_modules()
        self._app.finalize()

    def connection(self) -> Any:
        """A connection to the broker for writing."""
        return self._app.connection_for_write()

    def queues(self, names: Sequence[str] = ()) -> list[Any]:
        """Celery's queues."""
        queues = self._app.amqp.queues
        return [queues[name] for name in names] if names else list(queues.values())

    def accepted_content(self) -> Sequence[str] | None:
        """``accept_content``."""
        accepted: Sequence[str] | None = self._app.conf.accept_content
        return accepted

    def result_url(self) -> str:
        """The backend's address."""
        return without_password(str(self._app.conf.result_backend or ""))

    def report(self) -> str:
        """Celery's own report."""
        return str(bugreport(self._app))

    def symbols(self) -> dict[str, Any]:
        """What Celery's own shell offers."""
        return {"app": self._app, "celery": self._app, **{name: getattr(celery, name) for name in _SYMBOLS}}

    def tasks(self) -> Mapping[str, Any]:
        """The registry."""
        tasks: Mapping[str, Any] = self._app.tasks
        return tasks

    def boot_steps(self, include: frozenset[str]) -> str:
        """The graph of Celery's steps and the application's, as a stock worker would run them."""
        worker = self._app.WorkController()
        if "worker" in include:
            graph = worker.blueprint.graph
            if "consumer" in include:
                worker.blueprint.connect_with(worker.consumer.blueprint)
        else:
            graph = worker.consumer.blueprint.graph
        text = io.StringIO()
        graph.to_dot(text)
        return text.getvalue()

    def reading_connection(self) -> Any:
        """A connection to the broker for reading."""
        return self._app.connection_for_read()

    def take_snapshots(self, snapshots: Snapshots) -> None:
        """With a camera of Celery's."""
        evcam(
            snapshots.camera, freq=snapshots.frequency_s, maxrate=snapshots.maxrate, loglevel=snapshots.loglevel,
            logfile=snapshots.logfile, pidfile=snapshots.pidfile, app=self._app,
        )  # fmt: skip

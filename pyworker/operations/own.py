"""Our own application under the hands of its operator."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kombu import Exchange
from kombu import Queue as KombuQueue

import pyworker
from pyworker.conf_defaults import SETTINGS
from pyworker.conf_display import without_secrets
from pyworker.control_client import ControlClient
from pyworker.events.snapshot import evcam
from pyworker.operations.protocol import NotSupported, RemoteCommand, Snapshots
from pyworker.operations.remote_commands import REMOTE_COMMANDS
from pyworker.redacting import without_password
from pyworker.routing import Router

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SYMBOLS = ("Task", "chord", "group", "chain", "chunks", "xmap", "xstarmap", "subtask", "signature")


class OwnOperations:
    """Operations on a :class:`pyworker.Celery`."""

    def __init__(self, app: pyworker.Celery) -> None:
        self._app = app
        self.control = ControlClient(app)
        self.events = app.events

    def remote_commands(self) -> Mapping[str, RemoteCommand]:
        """Those that every node of ours has."""
        return REMOTE_COMMANDS

    def load_tasks(self) -> None:
        """Import what the worker imports, and take in the shared tasks."""
        self._app.loader.import_default_modules()

    def connection(self) -> Any:
        """A connection to the broker for writing."""
        return self.control.connection()

    def queues(self, names: Sequence[str] = ()) -> list[Any]:
        """Queues as the router knows them."""
        router = Router(self._app.conf)
        queues = [router.queue(name) for name in names or router.names()]
        return [
            KombuQueue(queue.name, Exchange(queue.exchange, type=queue.exchange_type), routing_key=queue.routing_key)
            for queue in queues
        ]

    def accepted_content(self) -> Sequence[str] | None:
        """``accept_content``."""
        accepted: Sequence[str] | None = self._app.conf.accept_content
        return accepted

    def result_url(self) -> str:
        """The backend's address."""
        return without_password(str(self._app.conf.result_backend or ""))

    def report(self) -> str:
        """Versions, platform, and the settings that were made, secrets hidden."""
        app = self._app
        with self.connection() as connection:
            transport = f"{connection.transport.driver_name}:{connection.transport.driver_version()}"
            scheme = connection.transport_cls
        settings = "\n".join(f"{name}: {without_secrets(name, app.conf[name])!r}" for name in sorted(_made(app)))
        architecture = ", ".join(part for part in platform.architecture() if part)
        return (
            f"\nsoftware -> pyworker:{pyworker.__version__} kombu:{version('kombu')} py:{platform.python_version()}\n"
            f"            {transport}\n"
            f"platform -> system:{platform.system()} arch:{architecture}\n"
            f"            kernel version:{platform.release()} imp:{sys.implementation.name}\n"
            f"settings -> transport:{scheme} results:{self.result_url() or 'disabled'}\n\n{settings}\n"
        )

    def symbols(self) -> dict[str, Any]:
        """What ``pyworker`` exports for canvases, and the app."""
        return {"app": self._app, "celery": self._app, **{name: getattr(pyworker, name) for name in _SYMBOLS}}

    def tasks(self) -> Mapping[str, Any]:
        """The registry."""
        return self._app.tasks

    def boot_steps(self, include: frozenset[str]) -> str:
        """Refuse: there are none."""
        raise NotSupported("an application of pyworker's own has no boot steps; they belong to celery.Celery")

    def reading_connection(self) -> Any:
        """A connection to the broker for reading."""
        return self._app.connection_for_read()

    def take_snapshots(self, snapshots: Snapshots) -> None:
        """With a camera of :mod:`pyworker.events.snapshot`."""
        evcam(
            snapshots.camera, snapshots.frequency_s, snapshots.maxrate, snapshots.loglevel, snapshots.logfile,
            snapshots.pidfile, app=self._app,
        )  # fmt: skip


def _made(app: pyworker.Celery) -> list[str]:
    """Names of the settings that differ from the reference."""
    defaults = {setting.name: setting.default for setting in SETTINGS}
    return [name for name in app.conf if app.conf[name] != defaults.get(name)]

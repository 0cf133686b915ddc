"""The seam between the operator's commands and an application.

Two implementations: :mod:`pyworker.operations.own` for our app and :mod:`pyworker.compat.celery.operations` for a
``celery.Celery``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class RemoteCommand:
    """A remote control command as the command line offers it."""

    name: str
    kind: Literal["inspect", "control"]
    help: str
    #: Its arguments for people, such as ``<queue>``.
    signature: str = ""
    #: Names and types of the positional arguments; no type leaves the text.
    arguments: tuple[tuple[str, Callable[[str], Any] | None], ...] = ()
    #: Name of the argument that takes all further ones as a list.
    variadic: str | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """How a camera takes pictures."""

    #: Where its class is: ``module.Class``.
    camera: str
    frequency_s: float = 1.0
    #: At most so many pictures, such as ``10/m``.
    maxrate: str | None = None
    loglevel: str | int = "WARNING"
    logfile: str | None = None
    pidfile: str | None = None


class Operations(Protocol):
    """An application under the hands of its operator."""

    #: Sends remote control commands: ``broadcast`` and ``inspect`` as of ``celery.app.control.Control``.
    control: Any
    #: ``Receiver``, ``State`` and ``Dispatcher``: the application's own ``app.events``.
    events: Any

    def remote_commands(self) -> Mapping[str, RemoteCommand]:
        """The remote control commands that the workers of this app have, by name."""

    def load_tasks(self) -> None:
        """Import the modules that define the tasks."""

    def connection(self) -> Any:
        """A new kombu connection to the broker, not opened yet."""

    def reading_connection(self) -> Any:
        """A new kombu connection to where the broker is read from, not opened yet."""

    def queues(self, names: Sequence[str] = ()) -> list[Any]:
        """The queues with these names, all configured ones without names, as ``kombu.Queue``."""

    def accepted_content(self) -> Sequence[str] | None:
        """The content types that messages may have."""

    def result_url(self) -> str:
        """The result store's address without its password, empty if there is none."""

    def report(self) -> str:
        """What belongs into a bug report."""

    def symbols(self) -> dict[str, Any]:
        """The names of the library that a shell session starts with, without the tasks."""

    def tasks(self) -> Mapping[str, Any]:
        """All tasks by name."""

    def boot_steps(self, include: frozenset[str]) -> str:
        """The graph of boot steps in the dot language.

        Raises:
            NotSupported: the library has no boot steps.
        """

    def take_snapshots(self, snapshots: Snapshots) -> None:
        """Give the state that events draw to a camera at intervals, until the process is interrupted.

        Raises:
            Exception: the camera cannot be had, or another process holds the pid file.
        """


class NotSupported(Exception):
    """The application's library does not have what was asked for."""

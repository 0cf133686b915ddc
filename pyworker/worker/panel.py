"""Remote control commands of an application's own: ``@inspect_command`` and ``@control_command``.

The decorators take Celery's arguments. A command is called with a state object (``app``, ``hostname``, ``worker``,
``engine``) and the arguments that the client sent; what it returns is the reply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True, kw_only=True)
class CommandInfo:
    """What a command line shows of a command."""

    type: Literal["inspect", "control"]
    alias: str | None = None
    visible: bool = True
    default_timeout: float = 1.0
    help: str | None = None
    signature: str | None = None
    args: Sequence[tuple[str, Callable[[str], Any]]] = ()
    variadic: str | None = None


@dataclass
class Panel:
    """Commands by name."""

    data: dict[str, Callable[..., Any]] = field(default_factory=dict)
    meta: dict[str, CommandInfo] = field(default_factory=dict)

    def register(self, command: Callable[..., Any], name: str | None, info: CommandInfo) -> None:
        """Add a command under its name and its alias."""
        known_as = name or command.__name__
        self.data[known_as] = command
        self.meta[known_as] = info
        if info.alias:
            self.data[info.alias] = command


#: The commands of this process's applications.
panel = Panel()


def inspect_command(*, name: str | None = None, **options: Any) -> Callable[[Command], Command]:
    """Register a function as a command that reads. Options: the fields of :class:`CommandInfo`."""
    return _registering(name, CommandInfo(type="inspect", **options))


def control_command(*, name: str | None = None, **options: Any) -> Callable[[Command], Command]:
    """Register a function as a command that changes something. Options: the fields of :class:`CommandInfo`."""
    return _registering(name, CommandInfo(type="control", **options))


def _registering(name: str | None, info: CommandInfo) -> Callable[[Command], Command]:
    def register(command: Command) -> Command:
        panel.register(command, name, info)
        return command

    return register

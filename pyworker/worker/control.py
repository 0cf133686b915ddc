"""The remote control mailbox: answers what ``celery inspect`` and ``celery control`` send, on the node's broker line.

Library-neutral: the mailbox is kombu's, the connection is the application's, and each command is offered to the
application first (:meth:`WorkerApp.control_command`); what it leaves is answered from the engine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kombu.pidbox import Mailbox

from pyworker.worker.broker_line import LinePart
from pyworker.worker.control_commands import COMMANDS
from pyworker.worker.redis_line import leave_channel, own_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyworker._native import Engine
    from pyworker.worker.broker_line import BrokerLine
    from pyworker.worker.protocol import WorkerApp

logger = logging.getLogger("pyworker.worker.control")


class ControlledWorker(Protocol):
    """What remote control needs of the running worker; the runner is one."""

    hostname: str
    engine: Engine

    def request_shutdown(self, *, exitcode: int = 0) -> None:
        """Begin a warm shutdown; called from the mailbox's thread."""


@runtime_checkable
class MailboxProvider(Protocol):
    """An application with a mailbox of its own settings (names, serializer, expiry)."""

    def control_mailbox(self) -> Mailbox | None:
        """The mailbox, or ``None`` when remote control is off."""


class _Handlers(Mapping[str, Callable[..., Any]]):
    """The table that kombu's node looks commands up in."""

    def __init__(self, app: WorkerApp, worker: ControlledWorker) -> None:
        self._app = app
        self._worker = worker

    def __getitem__(self, name: str) -> Callable[..., Any]:
        def handle(_state: object, **arguments: Any) -> Any:
            reply = self._app.control_command(name, arguments, self._worker)
            if reply is NotImplemented:
                return COMMANDS[name](self._app, self._worker, **arguments)
            return reply

        return handle

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class ControlMailbox(LinePart):
    """The mailbox of one node, a part of its broker line. ``start`` after the fork server was forked.

    Args:
        app: the application.
        worker: the running worker.
        line: the node's connection beside the engine's.
    """

    name = "remote control"

    def __init__(self, app: WorkerApp, worker: ControlledWorker, line: BrokerLine) -> None:
        self._app = app
        self._worker = worker
        self._line = line
        self._mailbox = app.control_mailbox() if isinstance(app, MailboxProvider) else Mailbox("celery", type="fanout")
        self._listening = threading.Event()
        self._node: Any = None
        self._consumer: Any = None

    @property
    def is_enabled(self) -> bool:
        """Whether the application wants remote control at all."""
        return self._mailbox is not None

    def start(self) -> None:
        """Listen from soon on; does nothing when remote control is off."""
        if self._mailbox is not None:
            self._line.add(self)

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Whether broadcasts reach this node by now; waits for it. At once when remote control is off."""
        return self._mailbox is None or self._listening.wait(timeout_s)

    def stop(self) -> None:
        """Withdraw the mailbox and wait for that, within limits. Idempotent."""
        self._line.remove(self)

    # -- in the line's thread

    def open(self, connection: Any) -> None:
        """Listen on a new connection."""
        assert self._mailbox is not None
        mailbox = self._mailbox(connection)
        # Replies leave by this connection, whose health is looked after, and not by one of the application's pool.
        mailbox.producer_pool = None
        self._node = mailbox.Node(
            self._worker.hostname,
            state=None,
            channel=own_channel(connection),
            handlers=_Handlers(self._app, self._worker),
        )
        self._consumer = self._node.listen(callback=self._on_message)

    def turn(self, connection: Any) -> bool:
        """What comes is answered when it comes; here it is clear that it can."""
        self._listening.set()
        return False

    def close(self) -> None:
        """Take no more commands."""
        self._consumer.cancel()
        leave_channel(self._node.channel)

    def _on_message(self, body: Any, message: Any) -> None:
        # Clients usually have no valid clock, so this node's own moves on with every command.
        self._node.mailbox.clock.forward()
        try:
            self._node.handle_message(body, message)
        except SystemExit:
            # The command ended the worker; it has no reply.
            return
        except Exception as error:
            logger.exception("Control command error: %r", error)

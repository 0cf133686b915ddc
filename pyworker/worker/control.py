"""The remote control mailbox: one parent thread that answers what ``celery inspect`` and ``celery control`` send.

Library-neutral: the mailbox is kombu's, the connection is the application's, and each command is offered to the
application first (:meth:`WorkerApp.control_command`); what it leaves is answered from the engine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kombu.pidbox import Mailbox

from pyworker.worker.control_commands import COMMANDS
from pyworker.worker.draining import Drain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyworker._native import Engine
    from pyworker.worker.protocol import WorkerApp

logger = logging.getLogger("pyworker.worker.control")

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0


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


class ControlMailbox:
    """The mailbox of one node. ``start`` after the fork server was forked; ``stop`` is idempotent."""

    def __init__(self, app: WorkerApp, worker: ControlledWorker) -> None:
        self._app = app
        self._worker = worker
        self._mailbox = app.control_mailbox() if isinstance(app, MailboxProvider) else Mailbox("celery", type="fanout")
        self._drain = Drain()
        self._listening = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether the application wants remote control at all."""
        return self._mailbox is not None

    def start(self) -> None:
        """Start the thread; does nothing when remote control is off."""
        if self._mailbox is None or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="pyworker-control", daemon=True)
        self._thread.start()

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Whether broadcasts reach this node by now; waits for it. At once when remote control is off."""
        return self._thread is None or self._listening.wait(timeout_s)

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """Withdraw the mailbox and wait for the thread, at most until the deadline."""
        if self._drain.is_stopping:
            return
        self._drain.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(deadline_s)

    # -- the thread

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._drain.is_stopping:
            connection = self._app.broker_connection()
            try:
                self._serve(connection)
                retry_s = _FIRST_RETRY_S
                connection.release()
            except Exception as error:  # whatever the transport raises, the mailbox comes back
                # Without a word to the server: it may be gone, and its answer would be waited for.
                connection.collect()
                if self._drain.is_stopping:
                    return
                logger.warning("remote control: connection lost: %r; trying again in %.0f s", error, retry_s)
                self._drain.pause(retry_s)
                retry_s = min(retry_s * 2, _LONGEST_RETRY_S)

    def _serve(self, connection: Any) -> None:
        assert self._mailbox is not None
        mailbox = self._mailbox(connection)
        # Replies leave by this connection, whose health is looked after, and not by one of the application's pool.
        mailbox.producer_pool = None
        node = mailbox.Node(
            self._worker.hostname, state=None, channel=connection.channel(), handlers=_Handlers(self._app, self._worker)
        )

        def on_message(body: Any, message: Any) -> None:
            # Clients usually have no valid clock, so this node's own moves on with every command.
            node.mailbox.clock.forward()
            try:
                node.handle_message(body, message)
            except SystemExit:
                # The command ended the worker; it has no reply.
                return
            except Exception as error:
                logger.exception("Control command error: %r", error)

        consumer = node.listen(callback=on_message)
        try:
            while not self._drain.is_stopping:
                self._drain.deliver(connection)
                # kombu subscribes when it first looks for events, not when the consumer is made.
                self._listening.set()
                self._drain.wait(connection)
        finally:
            if self._drain.is_stopping:
                consumer.cancel()
                node.channel.close()

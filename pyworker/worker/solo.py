"""``-P solo``: tasks run in the worker's own main thread, one at a time.

The engine knows no difference. It asks a fork server for one child; here nobody forks: the main thread takes the
descriptors of the ``spawn`` command and runs the child's loop itself, while the parent's loop moves to a thread.
The main thread keeps the tasks because that is what solo is for (debuggers, libraries that want the main thread),
and because Python runs signal handlers there: a stop signal during a task leaves its note at once.

The engine watches a process for every child and signals it. It is given a stand-in, a shell that ignores stop
signals and ends with us: so terminating "the child" can never hit the worker. Limits therefore do not exist here,
as in Celery; a task cannot be cancelled, a cold shutdown waits for it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from pyworker._native import ChildLink
from pyworker.worker import fork_protocol, process_control
from pyworker.worker.child import EXIT_FAILURE, EXIT_OK, exit_status, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.worker.config import EngineConfig
    from pyworker.worker.protocol import TaskRunner, WorkerApp

logger = logging.getLogger("celery.worker")

_STAND_IN = ("/bin/sh", "-c", "trap '' TERM INT HUP QUIT USR1; read -r status; exit \"${status:-0}\"")
#: What a child's initialisation may change and this process needs back.
_KEPT_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def without_limits(config: EngineConfig) -> EngineConfig:
    """The configuration with one child that is never replaced and whose tasks have no time limits."""
    return replace(
        config,
        pool=replace(
            config.pool, concurrency=1, max_tasks_per_child=None, max_memory_per_child_kib=None, up_timeout_s=None
        ),
        tasks=tuple(replace(task, soft_time_limit_s=None, time_limit_s=None) for task in config.tasks),
    )


class SoloPool:
    """The main thread as the pool's only child."""

    def __init__(self) -> None:
        ours, self._channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        #: The engine's end, to be owned by it.
        self.command_fd = ours.detach()
        #: Commands' descriptors that nobody uses but that mean a death to the engine when closed.
        self._spares: list[int] = []
        self._failure: BaseException | None = None

    def run(self, app: WorkerApp, parent_loop: Callable[[], None]) -> None:
        """Run tasks until the engine closes its end.

        Args:
            parent_loop: run in a thread meanwhile; it must stop the engine before it returns.
        """
        thread = threading.Thread(target=self._run_parent, args=(parent_loop,), name="pyworker-parent")
        thread.start()
        try:
            self._obey(app)
        finally:
            self._channel.close()
            fork_protocol.close_all(self._spares)
            self._spares = []
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _run_parent(self, parent_loop: Callable[[], None]) -> None:
        try:
            parent_loop()
        except BaseException as error:  # raised again in the main thread
            self._failure = error

    def _obey(self, app: WorkerApp) -> None:
        while True:
            command = fork_protocol.receive(self._channel)
            if command is None:
                return
            if isinstance(command, fork_protocol.Spare):
                self._spares.append(command.command_fd)
            else:
                _run_child(app, command)


class _StandIn:
    """The process that the engine takes for the child. The engine reaps it, so nobody waits for it here."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        self.pid = os.posix_spawn(_STAND_IN[0], _STAND_IN, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)])
        os.close(reader)

    def end(self, status: int) -> None:
        """Let it end with this exit code: the child's end as the engine sees it."""
        try:
            os.write(self._writer, b"%d\n" % status)
        except BrokenPipeError:
            pass  # the engine killed it
        os.close(self._writer)


def _run_child(app: WorkerApp, command: fork_protocol.Spawn) -> None:
    """The child's life, in this process."""
    stand_in = _StandIn()
    os.write(command.link_fd, fork_protocol.announcement(stand_in.pid))
    status = EXIT_OK
    try:
        link = ChildLink(command.memory_fd, command.link_fd)
        work(_start(app, link, command.index), link)
    except BaseException as error:
        # What would end a child's process: a task that calls sys.exit(), an initialisation that fails. The
        # engine finds the job unfinished, reports it as lost and asks for a successor.
        logger.error("Pool process %d error: %r", os.getpid(), error, exc_info=True)
        status = exit_status(error) if isinstance(error, SystemExit) else EXIT_FAILURE
    app.child_stopping(os.getpid(), status)
    stand_in.end(status)


def _start(app: WorkerApp, link: ChildLink, index: int) -> TaskRunner:
    """Initialise this process as a child, but keep what belongs to the parent it also is."""
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in _KEPT_SIGNALS}
    try:
        return app.child_started(link, index)
    finally:
        # Embedded in a program's thread there is nothing to put back: only the main thread can change handlers.
        if threading.current_thread() is threading.main_thread():
            for name, handler in handlers.items():
                signal.signal(getattr(signal, name), signal.SIG_DFL if handler is None else handler)
        process_control.set_parent_death_signal(0)

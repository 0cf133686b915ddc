"""The worker's main function: everything in Celery's order, then the parent's loop, then everything down again."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pyworker._native import Engine, NativeError
from pyworker.compat import remote_debugger
from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.broker_line import BrokerLine
from pyworker.worker.child import run_child
from pyworker.worker.connection_log import ConnectionLog
from pyworker.worker.control import ControlMailbox
from pyworker.worker.forkserver import ForkServer, start_fork_server
from pyworker.worker.kombu_carrier import KombuCarrier
from pyworker.worker.kombu_config import KombuBrokerConfig
from pyworker.worker.kombu_consuming import KombuSource
from pyworker.worker.operated import OperatedApp
from pyworker.worker.parent_loop import ParentLoop
from pyworker.worker.pidfile import EXIT_CANNOT_CREATE, Pidfile, PidfileLocked
from pyworker.worker.probes import QueueWatcher
from pyworker.worker.shutdown import EXIT_FAILURE, EXIT_OK, Phase, ShutdownPolicy, term_is_remapped
from pyworker.worker.solo import SoloPool, without_limits

if TYPE_CHECKING:
    from pyworker.worker.config import EngineConfig
    from pyworker.worker.protocol import WorkerApp, WorkerOptions

logger = logging.getLogger("celery.worker")

#: How long the fork server has to go away at the end; it holds nothing, so this is for its exit alone.
_FORK_SERVER_EXIT_S = 2.0
#: How long the worker waits with saying that it is ready; it works meanwhile.
_MAILBOX_OPEN_S = 5.0


class Runner:
    """One worker node, from its options to its exit code. Used once."""

    def __init__(self, app: WorkerApp, options: WorkerOptions) -> None:
        self.app = app
        self.options = options
        self.hostname = options.hostname or ""
        self.engine: Engine
        self.loop: ParentLoop
        #: Wall-clock time of the start, for ``inspect stats``.
        self.started_at = time.time()
        self._is_solo = options.pool == "solo"
        self._mailbox: ControlMailbox | None = None
        self._watcher: QueueWatcher | None = None
        self._carrier: KombuCarrier | None = None
        self._pidfile = Pidfile(options.pidfile) if options.pidfile else None

    def run(self) -> int:
        """Run the worker until it is told to stop; returns the exit code. Does not return after SIGHUP."""
        self.app.configure(self.options)
        self.hostname = self.app.hostname
        if self._pidfile is not None:
            try:
                self._pidfile.acquire()
            except PidfileLocked as error:
                print(error, file=sys.stderr)
                return EXIT_CANNOT_CREATE
        try:
            exit_code = self._run_node()
        finally:
            if self._pidfile is not None:
                self._pidfile.release()
        if self.loop.wants_restart:
            _start_anew()
        return exit_code

    def request_shutdown(self, *, exitcode: int = EXIT_OK) -> None:
        """Begin a warm shutdown; for any thread."""
        self.loop.request_shutdown(exitcode)

    def _run_node(self) -> int:
        config = self.app.engine_config()
        if self._is_solo:
            config = without_limits(config)
        banner = self.app.banner()
        if banner:
            print(banner, file=sys.__stdout__, flush=True)
        self.app.before_pool()
        solo = SoloPool() if self._is_solo else None
        child_main = partial(run_child, self.app, max_memory_kib=config.pool.max_memory_per_child_kib)
        server = None if solo else start_fork_server(child_main)
        self.engine = _engine(config, solo.command_fd if solo else _command_fd(server))
        self.app.attach(self.engine)
        self._open_probes(config)
        if isinstance(config.broker, KombuBrokerConfig) and isinstance(self.app, KombuSource):
            self._carrier = KombuCarrier(self.app, config.broker)
        self.loop = self._make_loop(config)
        self.loop.inbox.install(
            # Closing a terminal must end the worker, not send it into the background.
            restarts=not sys.stdout.isatty(),
            debugger=remote_debugger() if os.environ.get("CELERY_RDBSIG") else None,
        )
        try:
            # It waits for neighbours: a signal meanwhile is obeyed as soon as the node is up.
            if isinstance(self.app, OperatedApp):
                self.app.before_consuming()
            return self._run_loop(solo)
        finally:
            self.loop.inbox.restore()
            if server is not None:
                _await_exit(server)

    def _open_probes(self, config: EngineConfig) -> None:
        if self.options.probes is None:
            return
        try:
            address = self.engine.serve_probes(self.options.probes)
        except NativeError as error:
            raise ImproperlyConfigured(str(error)) from error
        logger.info("probes listen at http://%s", address)
        self._watcher = QueueWatcher(self.engine, self._line(), getattr(config.broker, "queues", ()))

    def _line(self) -> BrokerLine:
        return self.app.line if isinstance(self.app, OperatedApp) else BrokerLine(self.app.broker_connection)

    def _make_loop(self, config: EngineConfig) -> ParentLoop:
        policy = ShutdownPolicy(
            soft_timeout_s=config.shutdown.soft_timeout_s,
            soft_on_idle=config.shutdown.soft_on_idle,
            term_is_cold=term_is_remapped(),
        )
        connection = ConnectionLog(_broker_uri(self.app), config.broker.retry)
        return ParentLoop(
            self.app,
            self.engine,
            connection,
            policy,
            can_cancel=not self._is_solo,
            on_first_ready=self._on_first_ready,
        )

    def _on_first_ready(self) -> None:
        # Upstream's mailbox is open before anybody can see that the worker is ready.
        self._mailbox = ControlMailbox(self.app, self, self._line())
        self._mailbox.start()
        if self._watcher is not None:
            self._watcher.start()
        if not self._mailbox.wait_until_listening(_MAILBOX_OPEN_S):
            logger.warning("remote control is not reachable yet")
        self.app.on_ready(self)
        logger.info("%s ready.", self.hostname)

    def _run_loop(self, solo: SoloPool | None) -> int:
        exit_code = EXIT_FAILURE
        try:
            if solo is None:
                self._loop_and_stop()
            else:
                solo.run(self.app, self._loop_and_stop)
            exit_code = self.loop.exit_code
        except Exception as error:
            logger.critical("Unrecoverable error: %r", error, exc_info=True)
        self.app.on_stopped()
        return exit_code

    def _loop_and_stop(self) -> None:
        try:
            self.engine.start()
            if self._carrier is not None:
                self._carrier.start()
            self.loop.run()
        finally:
            if self.loop.phase is not Phase.HARD:
                self.loop.stop_engine()
            if self.loop.phase is Phase.HARD:
                # Nothing is waited for any more, not even a task in solo's main thread; the children die with us.
                if self._pidfile is not None:
                    self._pidfile.release()
                os._exit(self.loop.exit_code)
            if self._carrier is not None:
                self._carrier.stop()
            if self._watcher is not None:
                self._watcher.stop()
            if self._mailbox is not None:
                self._mailbox.stop()


def _engine(config: EngineConfig, command_fd: int) -> Engine:
    """Return the engine.

    Raises:
        ImproperlyConfigured: it cannot be made of these settings and options.
    """
    try:
        return Engine(config, command_fd)
    except NativeError as error:
        if error.kind != "config":
            raise
        raise ImproperlyConfigured(str(error)) from error


def _command_fd(server: ForkServer | None) -> int:
    assert server is not None
    return server.command_fd


def _broker_uri(app: WorkerApp) -> str:
    """The broker's address for log lines, without its password."""
    return str(app.broker_connection().as_uri())


def _await_exit(server: ForkServer) -> None:
    """Reap the fork server, which exits because the engine closed its socket."""
    deadline = time.monotonic() + _FORK_SERVER_EXIT_S
    pause = threading.Event()
    try:
        while os.waitpid(server.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            pause.wait(0.002)
    except ChildProcessError:
        pass  # it died before and was reaped as an orphan


def _start_anew() -> NoReturn:
    """Replace this process by a fresh start of the same command (SIGHUP)."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

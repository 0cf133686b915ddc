"""Remote control, events, revokes and autoscale of a worker of our own app, put together."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.autoscale import Autoscaler
from pyworker.worker.engine_clock import let_engine_keep
from pyworker.worker.event_stream import EventStream, heartbeat_interval_s
from pyworker.worker.native_changes import NativeChanges
from pyworker.worker.native_config import autoscale_bounds
from pyworker.worker.native_inspect import NativeInspect
from pyworker.worker.native_node import NativeNode
from pyworker.worker.neighbours import count_mailboxes
from pyworker.worker.panel import panel
from pyworker.worker.revoked_ids import RevokedIds, StateDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyworker._native import Engine
    from pyworker.app import Celery
    from pyworker.worker.broker_line import BrokerLine
    from pyworker.worker.config import EngineConfig
    from pyworker.worker.native_deliveries import NativeDeliveries
    from pyworker.worker.protocol import WorkerOptions

logger = logging.getLogger("celery.worker.consumer.mingle")

#: How long neighbours have to answer at the start, as in Celery.
_HELLO_S = 1.0


class CommandState:
    """What a command of the application's own is called with."""

    def __init__(self, node: NativeNode, worker: object) -> None:
        self.app = node.app
        self.hostname = node.hostname
        self.engine = node.engine
        self.worker = worker


class NativeMonitoring:
    """Everything of a node that is there for its operator.

    Raises:
        ImproperlyConfigured: ``--autoscale`` or ``worker_autoscaler`` cannot be used.
    """

    def __init__(
        self,
        app: Celery,
        hostname: str,
        options: WorkerOptions,
        config: EngineConfig,
        engine: Engine,
        deliveries: NativeDeliveries,
        *,
        connect: Callable[[], Any],
        event_line: BrokerLine,
        limits_s: tuple[float | None, float | None],
    ) -> None:
        conf = app.conf
        self._options = options
        # What the application's own code sends from this process carries the same clock.
        let_engine_keep(app.clock, engine)
        silent = [index for index, task in enumerate(config.tasks) if not _sends_events(app, task.name)]
        self.events = EventStream(
            engine,
            hostname,
            event_line,
            conf.event_exchange,
            serializer=conf.event_serializer,
            silent=silent,
            sends_task_events=bool(options.task_events or conf.worker_send_task_events),
            heartbeat_s=None if options.without_heartbeat else heartbeat_interval_s(options.heartbeat_interval_s),
        )
        self._revoked = RevokedIds()
        self._node = NativeNode(
            app=app,
            hostname=hostname,
            config=config,
            engine=engine,
            revoked=self._revoked,
            revoked_stamps=deliveries.revoked_stamps,
            events=self.events,
            terminated=deliveries.terminated_by_command,
            connect=connect,
            implementation=f"pyworker:{options.pool}",
            time_limits_s=limits_s,
            is_solo=options.pool == "solo",
        )
        deliveries.revoked, deliveries.events = self._revoked, self.events
        engine.set_revoke_bounds(count=self._revoked.count, life_s=self._revoked.life_s)
        self._revoked.on_added = engine.revoke
        self._commands = {**NativeInspect(self._node).commands, **NativeChanges(self._node).commands}
        path = options.statedb or conf.worker_state_db
        self._database = StateDatabase(path) if path else None
        if self._database is not None:
            task_ids, clock = self._database.load()
            self._revoked.add(task_ids)
            engine.adjust_clock(clock)
        if options.autoscale:
            upper, lower = autoscale_bounds(options)
            self._node.autoscaler = _autoscaler_class(conf.worker_autoscaler)(engine, upper, lower)

    def start(self) -> None:
        """The node consumes: tell the world, and begin to scale."""
        self.events.start()
        if self._node.autoscaler is not None:
            self._node.autoscaler.start()

    def stop(self) -> None:
        """The node is down: tell the world, and save what must outlive it."""
        if self._node.autoscaler is not None:
            self._node.autoscaler.stop()
        self._node.added_queues.stop()
        self.events.stop()
        if self._database is not None:
            self._database.save(self._revoked.ids(), self._node.engine.forward_clock())

    def run_command(self, name: str, arguments: Mapping[str, Any], worker: object) -> Any:
        """Run a command; ``NotImplemented`` if there is none of this name here."""
        self._node.engine.forward_clock()
        custom = panel.data.get(name)
        if custom is not None:
            return custom(CommandState(self._node, worker), **arguments)
        command = self._commands.get(name)
        return NotImplemented if command is None else command(**arguments)

    def mingle(self) -> None:
        """Get revoked ids and the clock from the other nodes, if there are any."""
        if self._options.without_mingle or not self._node.app.conf.worker_enable_remote_control:
            return
        logger.info("mingle: searching for neighbors")
        try:
            replies = self._say_hello()
        except Exception as error:
            # Without a broker there are no neighbours either; the engine reports the broker by itself.
            logger.debug("mingle: %r", error)
            return
        if not replies:
            logger.info("mingle: all alone")
            return
        logger.info("mingle: sync with %s nodes", len(replies))
        for reply in replies:
            self._node.engine.adjust_clock(int(reply.get("clock") or 0))
            self._revoked.add(reply.get("revoked") or ())
        logger.info("mingle: sync complete")

    def _say_hello(self) -> list[Mapping[str, Any]]:
        with self._node.connect() as connection:
            if not connection.supports_exchange_type("fanout"):
                return []
            mailbox = self._node.app.control.mailbox(connection)
            neighbours = count_mailboxes(connection.default_channel, mailbox.exchange.name, self._node.hostname)
            if neighbours == 0:
                return []
            replies = mailbox._broadcast(
                "hello",
                {"from_node": self._node.hostname, "revoked": self._revoked.ids()},
                reply=True,
                timeout=_HELLO_S,
                limit=neighbours,
            )
        answers = [answer for reply in replies or () for answer in reply.values()]
        return [answer for answer in answers if isinstance(answer, dict) and "clock" in answer]


def _sends_events(app: Celery, name: str) -> bool:
    return bool(getattr(app.tasks.get(name), "send_events", True))


def _autoscaler_class(setting: Any) -> type[Autoscaler]:
    """Return the class that ``worker_autoscaler`` names: our own, a subclass, or the path of one.

    Raises:
        ImproperlyConfigured: it is none of these.
    """
    found: Any = setting or Autoscaler
    if isinstance(found, str):
        module, _, name = found.replace(":", ".").rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ImproperlyConfigured(f"worker_autoscaler: {setting!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Autoscaler)):
        raise ImproperlyConfigured(f"worker_autoscaler: {setting!r} is no subclass of pyworker's Autoscaler")
    return found

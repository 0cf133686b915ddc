"""The client of remote control for our own app: broadcasts over kombu's mailbox and collects the replies.

What goes over the wire is Celery's: a stock worker answers this client, and ours answers Celery's. kombu is imported
when the first command is sent, because ``import pyworker`` must stay light.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import DuplicateNodenameWarning, ImproperlyConfigured
from pyworker.routing import Router

if TYPE_CHECKING:
    from pyworker.app import Celery

#: Called with each reply, ``{node: answer}``, when it arrives.
ReplyCallback = Callable[[dict[str, Any]], object]
Destination = Sequence[str] | str | None

_DEFAULT_TIMEOUT_S = 1.0
_DEFAULT_SIGNAL = "SIGTERM"


class ControlClient:
    """Sends remote control commands to the workers of an app.

    Args:
        app: the application whose broker and settings are used.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    # -- the wire

    def connection(self) -> Any:
        """Return a new kombu connection to the broker that messages are written to, not opened yet."""
        return self._app.connection_for_write()

    def mailbox(self, connection: Any) -> Any:
        """Return the mailbox, bound to a connection if it is given one; a worker's own is the same.

        Raises:
            ImproperlyConfigured: ``control_queue_durable`` and ``control_queue_exclusive`` contradict each other.
        """
        from kombu.pidbox import Mailbox

        conf = self._app.conf
        if conf.control_queue_durable and conf.control_queue_exclusive:
            raise ImproperlyConfigured("control_queue_durable and control_queue_exclusive exclude each other")
        options: dict[str, Any] = {}
        if "queue_durable" in signature(Mailbox).parameters:  # newer kombu
            options = {"queue_durable": conf.control_queue_durable, "queue_exclusive": conf.control_queue_exclusive}
        return Mailbox(
            conf.control_exchange,
            type="fanout",
            accept=conf.accept_content,
            serializer=conf.task_serializer,
            queue_ttl=conf.control_queue_ttl,
            reply_queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires,
            reply_queue_expires=conf.control_queue_expires,
            **options,
        )(connection)

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Destination = None,
        *,
        connection: Any = None,
        reply: bool = False,
        timeout: float = _DEFAULT_TIMEOUT_S,
        limit: int | None = None,
        callback: ReplyCallback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> list[dict[str, Any]] | None:
        """Send a command to the workers.

        Args:
            command: its name.
            arguments: its arguments, as a mapping.
            destination: names of nodes; all without it.
            connection: an open kombu connection to use instead of an own one.
            reply: whether to wait for answers.
            timeout: how long to wait for them, in seconds.
            limit: how many answers are enough.
            callback: told each answer when it comes.
            channel: a channel of that connection to use instead of a new one.
            pattern, matcher: address nodes by a pattern, ``glob`` or ``pcre``.
            extra: further arguments of the command.

        Returns:
            One ``{node: answer}`` per answer, ``None`` without ``reply``.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        addressed = {"pattern": pattern, "matcher": matcher} if pattern and matcher else {}
        own = nullcontext(connection) if connection is not None else self.connection()
        with own as opened, opened.channel() if channel is None else nullcontext(channel) as used:
            replies: list[dict[str, Any]] | None = self.mailbox(opened)._broadcast(
                command,
                {**(arguments or {}), **extra},
                [destination] if isinstance(destination, str) else destination,
                reply,
                timeout,
                limit,
                callback,
                channel=used,
                **addressed,
            )
        return replies

    # -- commands

    def purge(self, connection: Any = None) -> int:
        """Delete all messages that wait in the app's queues; returns their number.

        Args:
            connection: a ``kombu.Connection`` to use.
        """
        with self._app.connection_or_acquire(connection) as opened, opened.channel() as channel:
            return sum(channel.queue_purge(name) or 0 for name in Router(self._app.conf).names())

    discard_all = purge

    def inspect(self, destination: Destination = None, timeout: float = _DEFAULT_TIMEOUT_S, **options: Any) -> Inspect:
        """Return the questions that can be asked; options as of :meth:`broadcast`."""
        return Inspect(self, destination, timeout, **options)

    def ping(self, destination: Destination = None, timeout: float = _DEFAULT_TIMEOUT_S, **options: Any) -> Any:
        """Ask who is there: ``[{node: {"ok": "pong"}}]``."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **options)

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Destination = None,
        terminate: bool = False,
        signal: str = _DEFAULT_SIGNAL,
        **options: Any,
    ) -> Any:
        """Have tasks by these ids not started; with ``terminate`` also end those that run, by a signal."""
        ids = task_id if isinstance(task_id, str) else list(task_id)
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Destination = None,
        signal: str = _DEFAULT_SIGNAL,
        **options: Any,
    ) -> Any:
        """Revoke, and end what runs."""
        return self.revoke(task_id, destination, True, signal, **options)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Destination = None,
        terminate: bool = False,
        signal: str = _DEFAULT_SIGNAL,
        **options: Any,
    ) -> Any:
        """Revoke every task that carries these stamps."""
        arguments = {"headers": dict(headers), "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def rate_limit(self, task_name: str, rate_limit: int | str, destination: Destination = None, **options: Any) -> Any:
        """Set how often a task may start: a number per second, or ``"100/m"``."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Destination = None,
        **options: Any,
    ) -> Any:
        """Set a task's time limits, in seconds, for what starts from now on."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Destination = None,
        **broadcast_options: Any,
    ) -> Any:
        """Have a queue consumed."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **broadcast_options)

    def cancel_consumer(self, queue: str, destination: Destination = None, **options: Any) -> Any:
        """Have a queue left alone."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def enable_events(self, destination: Destination = None, **options: Any) -> Any:
        """Have task events sent."""
        return self.broadcast("enable_events", {}, destination, **options)

    def disable_events(self, destination: Destination = None, **options: Any) -> Any:
        """Have no task events sent."""
        return self.broadcast("disable_events", {}, destination, **options)

    def heartbeat(self, destination: Destination = None, **options: Any) -> Any:
        """Have an event heartbeat sent now."""
        return self.broadcast("heartbeat", {}, destination, **options)

    def pool_grow(self, n: int = 1, destination: Destination = None, **options: Any) -> Any:
        """Add ``n`` children to each pool."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(self, n: int = 1, destination: Destination = None, **options: Any) -> Any:
        """Take ``n`` children from each pool."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Destination = None,
        **options: Any,
    ) -> Any:
        """Replace the children of each pool."""
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(self, max: int, min: int, destination: Destination = None, **options: Any) -> Any:
        """Set between how many children each pool moves."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def shutdown(self, destination: Destination = None, **options: Any) -> Any:
        """Begin a warm shutdown of the workers."""
        return self.broadcast("shutdown", {}, destination, **options)

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> None:
        """Hold an election among workers that gossip."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action}, connection=connection)


class Inspect:
    """Questions to the workers. Each returns ``{node: answer}``, ``None`` if nobody answered.

    Args:
        control: sends them.
        destination: names of nodes; a single name as text has its answer returned alone.
        timeout: how long to wait for answers, in seconds.
        options: as of :meth:`ControlClient.broadcast`.
    """

    def __init__(self, control: ControlClient, destination: Destination, timeout: float, **options: Any) -> None:
        self._control = control
        self.destination = destination
        self.timeout = timeout
        self._options = options

    def _request(self, command: str, **arguments: Any) -> Any:
        replies = self._control.broadcast(
            command, arguments, self.destination, reply=True, timeout=self.timeout, **self._options
        )
        if not replies:
            return None
        by_node = flatten_replies(replies)
        return by_node.get(self.destination) if isinstance(self.destination, str) else by_node

    def ping(self, destination: Destination = None) -> Any:
        """Who is there."""
        if destination:
            self.destination = destination
        return self._request("ping")

    def active(self, safe: bool | None = None) -> Any:
        """Tasks being run."""
        return self._request("active", safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks held until their time."""
        return self._request("scheduled")

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks held and not started."""
        return self._request("reserved")

    def revoked(self) -> Any:
        """Ids that will not be started."""
        return self._request("revoked")

    def registered(self, *task_attributes: str) -> Any:
        """Names of the registered tasks, with these attributes."""
        return self._request("registered", taskinfoitems=task_attributes)

    registered_tasks = registered

    def stats(self) -> Any:
        """Figures of the workers."""
        return self._request("stats")

    def active_queues(self) -> Any:
        """Queues being consumed."""
        return self._request("active_queues")

    def query_task(self, *task_ids: Any) -> Any:
        """What is known about these tasks."""
        ids = task_ids[0] if len(task_ids) == 1 and isinstance(task_ids[0], (list, tuple)) else task_ids
        return self._request("query_task", ids=ids)

    def conf(self, with_defaults: bool = False) -> Any:
        """Settings of the workers."""
        return self._request("conf", with_defaults=with_defaults)

    def clock(self) -> Any:
        """Logical clocks."""
        return self._request("clock")

    def report(self) -> Any:
        """What belongs into a bug report."""
        return self._request("report")

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What a starting worker asks the others."""
        return self._request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Note the memory in use."""
        return self._request("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """The last notes of the memory in use."""
        return self._request("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """A graph of live objects."""
        return self._request("objgraph", num=n, max_depth=max_depth, type=type)


def flatten_replies(replies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge replies into one mapping by node; warns of nodes that share a name."""
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for reply in replies:
        twice.update(name for name in reply if name in nodes)
        nodes.update(reply)
    if twice:
        warnings.warn(
            DuplicateNodenameWarning(
                f"more than one worker is named {', '.join(sorted(twice))}; give each its own name with -n"
            ),
            stacklevel=2,
        )
    return nodes

"""Which queue a task goes to: options of the call, then the task's own, then ``task_routes``, then the default."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker.exceptions import ImproperlyConfigured, QueueNotFound

if TYPE_CHECKING:
    from pyworker.conf import Settings

#: A router: (name, args, kwargs, options, task=...) -> route, queue name or None.
RouterFunction = Callable[..., "Mapping[str, Any] | str | None"]


class Queue(NamedTuple):
    """A queue with the exchange and key that lead to it."""

    name: str
    exchange: str
    exchange_type: str
    routing_key: str
    delivery_mode: int | None = None
    #: The ``kombu.Queue`` that it was configured as, if it was.
    declared: Any = None


#: Queues that one worker alone consumes from (``worker_direct``): what their names end with, and their exchange.
_DIRECT_ENDING = ".dq2"
_DIRECT_EXCHANGE = "C.dq2"


def direct_queue(hostname: str) -> Queue:
    """Return the queue of one worker alone, given the node's name."""
    return Queue(hostname + _DIRECT_ENDING, _DIRECT_EXCHANGE, "direct", hostname)


class Destination(NamedTuple):
    """Where a message goes, and what its delivery info says about that."""

    #: The queue, empty if only the broker knows which ones the exchange leads to.
    queue: str
    exchange: str
    routing_key: str
    delivery_mode: int
    #: What has to exist before the message is sent: queues of ours, exchanges of kombu.
    declares: tuple[Any, ...] = ()


class MapRoute:
    """Routes from a mapping or pairs: task names, glob patterns, compiled expressions."""

    def __init__(self, routes: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self._by_name: dict[str, Any] = {}
        self._by_pattern: list[tuple[re.Pattern[str], Any]] = []
        pairs: Any = routes.items() if isinstance(routes, Mapping) else routes
        for key, route in pairs:
            if isinstance(key, re.Pattern):
                self._by_pattern.append((key, route))
            elif "*" in key:
                self._by_pattern.append((_pattern(key), route))
            else:
                self._by_name[key] = route

    def __call__(self, name: str, *_args: Any, **_kwargs: Any) -> Mapping[str, Any] | str | None:
        found = self._by_name.get(name)
        if found is not None:
            return found  # type: ignore[no-any-return]
        return next((route for pattern, route in self._by_pattern if pattern.match(name)), None)


def _pattern(glob: str) -> re.Pattern[str]:
    # Not at the top: few programs have patterns.
    from fnmatch import translate

    return re.compile(translate(glob))


class Router:
    """Routes as the settings say; made anew when they change."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf
        self._queues = _configured_queues(conf)
        #: Broadcast queues have a name of their own in each process, and one that all know them by.
        self._aliases = {
            queue.declared.alias: name for name, queue in self._queues.items() if getattr(queue.declared, "alias", None)
        }
        self._routers = prepare(conf.task_routes)
        #: Whether routes depend on the task's name alone.
        self.is_static = all(isinstance(router, MapRoute) for router in self._routers)

    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task: Any = None,
        *,
        is_call: bool = False,
    ) -> dict[str, Any]:
        """Return the options with a ``queue`` (:class:`Queue`) and what the route adds; given ones win.

        Args:
            options, name, args, kwargs, task: the call.
            is_call: it is a task's own ``apply_async``, not ``send_task``.
        """
        given = self._expanded(options)
        found = next(filter(None, (self._ask(one, name, args, kwargs, given, task) for one in self._routers)), None)
        if found is None and "queue" not in given:
            found = {"queue": self._conf.task_default_queue}
        if found is not None:
            route = self._expanded({"queue": found} if isinstance(found, str) else found)
            # What is None counts as not given.
            return {**route, **{key: value for key, value in given.items() if value is not None}}
        if is_call:
            # Celery hands a task's priority on to the message even if it is none; other ways lead to the default, 0.
            given.setdefault("priority", None)
        return given

    def queue(self, name: str) -> Queue:
        """Return a queue by name, made up if ``task_create_missing_queues`` allows it.

        Raises:
            QueueNotFound: it is not configured and must not be made up.
        """
        known = self._queues.get(self._aliases.get(name, name))
        if known is None and name.endswith(_DIRECT_ENDING):
            known = direct_queue(name.removesuffix(_DIRECT_ENDING))
        if known is None:
            if not self._conf.task_create_missing_queues:
                raise QueueNotFound(f"Queue {name!r} missing from task_queues")
            kind = self._conf.task_create_missing_queue_exchange_type or "direct"
            known = self._queues[name] = Queue(name, name, kind, name)
        return known

    def destination(self, options: Mapping[str, Any]) -> Destination:
        """Return where routed options lead: straight into a queue if that is what the exchange would do.

        Raises:
            ImproperlyConfigured: neither a queue nor an exchange or key is named.
        """
        queue: Queue | None = options.get("queue")
        given = options.get("exchange")
        exchange, routing_key = getattr(given, "name", given), options.get("routing_key")
        mode = _delivery_mode(
            options.get("delivery_mode")
            or (queue.delivery_mode if queue else None)
            or self._conf.task_default_delivery_mode
        )
        if queue is None:
            if exchange:
                key = routing_key or self._conf.task_default_routing_key or ""
                return Destination("", exchange, key, mode, self._declared(given))
            if not routing_key:
                raise ImproperlyConfigured("a task needs a queue, or an exchange or routing_key, to go to")
            return Destination(routing_key, "", routing_key, mode)
        kind = options.get("exchange_type") or queue.exchange_type
        if kind == "direct" and (not exchange or not routing_key):
            return Destination(queue.name, "", queue.name, mode, (queue,))
        exchange, routing_key = exchange or queue.exchange, routing_key or queue.routing_key
        is_its_own = kind == "direct" and (exchange, routing_key) == (queue.exchange, queue.routing_key)
        if is_its_own and self._leads_to_one(queue):
            return Destination(queue.name, exchange, routing_key, mode, (queue,))
        return Destination("", exchange, routing_key, mode, (queue, *self._declared(given or exchange)))

    def _declared(self, exchange: Any) -> tuple[Any, ...]:
        """What is known of an exchange: itself as an object, else the queues that are bound to it."""
        if not isinstance(exchange, str):
            return (exchange,)
        return tuple(queue for queue in self._queues.values() if exchange in _exchanges_of(queue))

    def _leads_to_one(self, queue: Queue) -> bool:
        """Whether no other configured queue is bound to the same exchange by the same key."""
        same = (queue.exchange, queue.routing_key)
        others = (other for other in self._queues.values() if (other.exchange, other.routing_key) == same)
        return all(other.name == queue.name for other in others)

    def queues(self) -> list[Queue]:
        """Return the configured queues."""
        return list(self._queues.values())

    def names(self) -> list[str]:
        """Names of the queues that a worker consumes from by default."""
        return list(self._queues) if self._conf.task_queues else [self._conf.task_default_queue]

    def _expanded(self, route: Any) -> dict[str, Any]:
        expanded = dict(route)
        queue = expanded.pop("queue", None)
        if queue:
            expanded["queue"] = self.queue(queue) if isinstance(queue, str) else as_queue(queue, self._conf)
        return expanded

    def _ask(
        self, router: RouterFunction, name: str, args: Any, kwargs: Any, options: Any, task: Any
    ) -> Mapping[str, Any] | str | None:
        if hasattr(router, "route_for_task"):
            return router.route_for_task(name, args or (), kwargs or {})  # type: ignore[no-any-return]
        return router(name, args or (), kwargs or {}, options, task=task)


def _exchanges_of(queue: Queue) -> set[str]:
    """Names of the exchanges that a queue is bound to."""
    bindings = getattr(queue.declared, "bindings", None) or ()
    return {queue.exchange, *(binding.exchange.name for binding in bindings)}


def _delivery_mode(value: Any) -> int:
    return {"persistent": 2, "transient": 1}.get(value) or int(value)


def as_queue(queue: Any, conf: Settings) -> Queue:
    """Read a ``kombu.Queue``, one of ours, or a name."""
    if isinstance(queue, Queue):
        return queue
    default_kind = conf.task_default_exchange_type
    if isinstance(queue, str):
        return Queue(queue, conf.task_default_exchange or queue, default_kind, conf.task_default_routing_key or queue)
    exchange = getattr(queue, "exchange", None)
    kind = getattr(exchange, "type", None) or default_kind
    return Queue(
        queue.name,
        getattr(exchange, "name", None) or conf.task_default_exchange or queue.name,
        kind,
        # Both sides of a fanout or topic exchange must mean the same key, whatever each calls its queue.
        queue.routing_key
        or conf.task_default_routing_key
        or (queue.name if kind == "direct" else conf.task_default_queue),
        getattr(exchange, "delivery_mode", None),
        queue if getattr(exchange, "name", None) else None,
    )


def _configured_queues(conf: Settings) -> dict[str, Queue]:
    default = conf.task_default_queue
    configured = conf.task_queues
    if not configured:
        return {default: as_queue(default, conf)}
    if isinstance(configured, Mapping):
        return {
            name: Queue(
                name,
                entry.get("exchange") or conf.task_default_exchange or name,
                entry.get("exchange_type") or conf.task_default_exchange_type,
                entry.get("routing_key") or entry.get("binding_key") or conf.task_default_routing_key or name,
            )
            for name, entry in configured.items()
        }
    queues = [as_queue(queue, conf) for queue in configured]
    return {queue.name: queue for queue in queues}


def prepare(routes: Any) -> list[RouterFunction]:
    """Turn ``task_routes`` in any of its forms into routers."""
    if not routes:
        return []
    if not isinstance(routes, (list, tuple)) or all(_is_pair(route) for route in routes):
        routes = (routes,)
    return [_router(route) for route in routes]


def _is_pair(route: Any) -> bool:
    """Whether this is a pattern with its route, and no router."""
    return isinstance(route, tuple) and len(route) == 2 and isinstance(route[1], (Mapping, str))


def _router(route: Any) -> RouterFunction:
    if isinstance(route, (Mapping, list, tuple)):
        return MapRoute(route)
    if not isinstance(route, str):
        return route  # type: ignore[no-any-return]
    module, _, attribute = route.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(f"task_routes: cannot load the router {route!r}: {error}") from error
    return found() if isinstance(found, type) else found  # type: ignore[no-any-return]

"""The queues of an app of ours as kombu's, so that the same things are declared as by Celery."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kombu import Exchange, Queue

from pyworker.identifiers import reply_address
from pyworker.routing import direct_queue
from pyworker.transport.amqp_config import DeclareQueue

if TYPE_CHECKING:
    from pyworker.conf import Settings
    from pyworker.routing import Router


def kombu_queue(conf: Settings, router: Router, name: str) -> Any:
    """Return the queue of a name, as configured or as it would be made up.

    Raises:
        QueueNotFound: it is not configured and must not be made up.
    """
    configured = conf.task_queues or ()
    # A broadcast queue is known by its alias too.
    given = next((queue for queue in _values(configured) if name in _names_of(queue)), None)
    if isinstance(given, Queue):
        queue = given
        if not queue.routing_key and not queue.bindings:
            # As in Celery, the configured object itself learns it: others may hold it.
            queue.routing_key = router.queue(name).routing_key
        if not queue.exchange and not queue.bindings:
            queue = Queue(**{**queue.as_dict(), "exchange": _exchange(router, name)})
        return _with_priorities(conf, queue)
    route = router.queue(name)
    names = {getattr(queue, "name", queue) for queue in configured} or {conf.task_default_queue}
    kind = conf.task_default_queue_type if name in names else conf.task_create_missing_queue_type
    if route == direct_queue(route.routing_key):
        # A node's own goes with the node.
        kind = None
    queue = Queue(
        name,
        exchange=_exchange(router, name),
        routing_key=route.routing_key,
        queue_arguments={"x-queue-type": "quorum"} if kind == "quorum" else None,
    )
    return _with_priorities(conf, queue)


def _names_of(queue: Any) -> tuple[Any, Any]:
    return getattr(queue, "name", None), getattr(queue, "alias", None)


def _values(configured: Any) -> list[Any]:
    return list(configured.values()) if isinstance(configured, dict) else list(configured)


def _exchange(router: Router, name: str) -> Exchange:
    route = router.queue(name)
    return Exchange(route.exchange, type=route.exchange_type)


def _with_priorities(conf: Settings, queue: Any) -> Any:
    most = conf.task_queue_max_priority
    if most is not None and "x-max-priority" not in (queue.queue_arguments or {}):
        queue.queue_arguments = {**(queue.queue_arguments or {}), "x-max-priority": int(most)}
    return queue


def reply_queue(conf: Settings) -> DeclareQueue:
    """Return the declaration of this thread's reply queue, equal to that of Celery's backend."""
    expires = conf.result_expires
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    arguments = json.dumps({"x-expires": int(seconds * 1000)}).encode() if seconds else b""
    return DeclareQueue(name=reply_address(), auto_delete=True, arguments=arguments)

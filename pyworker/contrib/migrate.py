"""Moving waiting tasks: from one broker to another, or to other queues by what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu import Consumer, Exchange, Producer, Queue

from pyworker.current import app_or_default
from pyworker.utils import worker_direct

if TYPE_CHECKING:
    from pyworker.app import Celery

__all__ = [
    "State",
    "StopFiltering",
    "migrate_task",
    "migrate_tasks",
    "move",
    "move_by_idmap",
    "move_by_taskmap",
    "move_direct",
    "move_direct_by_id",
    "move_direct_by_idmap",
    "move_direct_by_taskmap",
    "move_task_by_id",
    "republish",
    "start_filter",
    "task_id_eq",
    "task_id_in",
]

#: Properties of a message that a publication takes by other names, or makes anew.
_MADE_ANEW = (
    "application_headers", "content_type", "content_encoding", "headers", "delivery_info", "delivery_tag",
    "body_encoding",
)  # fmt: skip

#: Called with a message's decoded body and the ``kombu.Message``.
Callback = Callable[[Any, Any], Any]


class StopFiltering(Exception):
    """Raised by a callback: enough has been found."""


class State:
    """How far a migration is.

    Attributes:
        count: messages looked at.
        filtered: messages moved.
        total_apx: how many there were at the beginning, about.
    """

    count = 0
    filtered = 0
    total_apx = 0

    @property
    def strtotal(self) -> str:
        """The total for people."""
        return str(self.total_apx) if self.total_apx else "?"

    def __repr__(self) -> str:
        return f"^{self.filtered}" if self.filtered else f"{self.count}/{self.strtotal}"


def task_id_of(body: Any, message: Any) -> Any:
    """Return a message's task id, of either protocol."""
    return message.headers.get("id") or (body.get("id") if isinstance(body, Mapping) else None)


def task_name_of(body: Any, message: Any) -> Any:
    """Return a message's task name, of either protocol."""
    return message.headers.get("task") or (body.get("task") if isinstance(body, Mapping) else None)


def task_id_eq(task_id: str, body: Any, message: Any) -> bool:
    """Whether a message is the task of this id."""
    return bool(task_id_of(body, message) == task_id)


def task_id_in(ids: Iterable[str], body: Any, message: Any) -> bool:
    """Whether a message is one of the tasks of these ids."""
    return task_id_of(body, message) in ids


def republish(
    producer: Any,
    message: Any,
    exchange: str | None = None,
    routing_key: str | None = None,
    remove_props: Iterable[str] | None = None,
) -> None:
    """Publish a received message again, its body as it came.

    Args:
        producer: a ``kombu.Producer``.
        message: the message.
        exchange, routing_key: where to, as it came if not given.
        remove_props: properties to leave out instead of those that are made anew.
    """
    info, headers = message.delivery_info, dict(message.headers)
    left_out = frozenset(_MADE_ANEW if remove_props is None else (*remove_props, "delivery_info", "delivery_tag"))
    properties = {key: value for key, value in message.properties.items() if key not in left_out}
    # Milliseconds as text in the message, seconds for the publication.
    expiration = properties.pop("expiration", None)
    producer.publish(
        message.body if isinstance(message.body, bytes) else str(message.body).encode(),
        exchange=info["exchange"] if exchange is None else exchange,
        routing_key=info["routing_key"] if routing_key is None else routing_key,
        # The body was decompressed on arrival.
        compression=headers.pop("compression", None),
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        expiration=None if expiration is None else float(expiration) / 1000,
        **properties,
    )


def migrate_task(producer: Any, body: Any, message: Any, queues: Mapping[str, str] | None = None) -> None:
    """Publish one message on another broker; ``queues`` renames exchanges and routing keys."""
    names = queues or {}
    info = message.delivery_info
    republish(producer, message, names.get(info["exchange"]), names.get(info["routing_key"]))


def migrate_tasks(
    source: Any,
    dest: Any,
    migrate: Callable[..., Any] = migrate_task,
    app: Celery | None = None,
    queues: Any = None,
    **options: Any,
) -> State:
    """Copy waiting tasks from one broker to another; with ``ack_messages`` they leave the first.

    Args:
        source, dest: ``kombu.Connection`` of each.
        migrate: what is done to each message: (producer, body, message, queues=).
        app: whose queues; the current one if not given.
        queues: names, ``"a,b:c"`` or a list or mapping; ``old:new`` renames. All queues of the app without it.
        options: of :func:`start_filter`.
    """
    app = app_or_default(app)
    names = renamed(queues)
    channel = dest.channel()
    producer = Producer(channel, auto_declare=False)

    def declare(queue: Any) -> None:
        name = names.get(queue.name, queue.name)
        exchange = name if queue.exchange.name == queue.name else queue.exchange.name
        key = name if queue.routing_key == queue.name else queue.routing_key
        # A queue's arguments may not suit the other broker.
        Queue(name, Exchange(exchange, type=queue.exchange.type), routing_key=key)(channel).declare()

    return start_filter(
        app, source, partial(migrate, producer, queues=names), queues=names, on_declare_queue=declare, **options
    )


def move(
    predicate: Callback,
    connection: Any = None,
    exchange: str | None = None,
    routing_key: str | None = None,
    source: Iterable[Any] | None = None,
    app: Celery | None = None,
    callback: Callable[[State, Any, Any], Any] | None = None,
    limit: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    **options: Any,
) -> State:
    """Move the waiting tasks that a function picks to another queue.

    Args:
        predicate: called with (body, message); returns where the message goes: a ``kombu.Queue``, a pair (exchange,
            routing key), any other true value for ``exchange`` and ``routing_key``; a false one leaves it.
        connection: a ``kombu.Connection``; a new one if not given.
        exchange, routing_key: where to, unless the function says it.
        source: queues or names to look through; all of the app if not given.
        app: the current one if not given.
        callback: called with (state, body, message) after each move.
        limit: how many to move at most.
        transform: changes what the function returned.
        options: of :func:`start_filter`.
    """
    app = app_or_default(app)
    state = options.pop("state", None) or State()
    with app.connection_or_acquire(connection, pool=False) as opened:
        channel = opened.channel()
        producer = Producer(channel)

        def on_task(body: Any, message: Any) -> None:
            found = predicate(body, message)
            if not found:
                return
            found = found if transform is None else transform(found)
            if isinstance(found, Queue):
                found(channel).declare()
                place: Any = found.exchange.name, found.routing_key
            else:
                place = found if isinstance(found, (tuple, list)) and len(found) == 2 else (exchange, routing_key)
            republish(producer, message, *place)
            message.ack()
            state.filtered += 1
            if callback is not None:
                callback(state, body, message)
            if limit and state.filtered >= limit:
                raise StopFiltering

        return start_filter(app, opened, on_task, consume_from=source, state=state, **options)


def start_filter(
    app: Celery,
    conn: Any,
    filter: Callback,
    limit: int | None = None,
    timeout: float = 1.0,
    ack_messages: bool = False,
    tasks: Any = None,
    queues: Any = None,
    callback: Callable[[State, Any, Any], Any] | None = None,
    forever: bool = False,
    on_declare_queue: Callable[[Any], Any] | None = None,
    consume_from: Iterable[Any] | None = None,
    state: State | None = None,
    accept: Iterable[str] | None = None,
) -> State:
    """Show every waiting task to a function; those that nobody acknowledges go back when the connection closes.

    Args:
        app: whose queues.
        conn: a ``kombu.Connection``.
        filter: called with (body, message).
        limit: how many to look at.
        timeout: seconds to wait for a further one.
        ack_messages: take them out of the queue.
        tasks: names of tasks, a list or with commas; others are left alone.
        queues: names as of :func:`migrate_tasks`; only these are declared.
        callback: called with (state, body, message) after each.
        forever: go on when none comes.
        on_declare_queue: called with each queue before anything is consumed.
        consume_from: queues or names; those of ``queues``, else all of the app.
        state: to go on with.
        accept: content types, ``accept_content`` if not given.
    """
    progress = state or State()
    wanted = frozenset(tasks.split(",") if isinstance(tasks, str) else tasks or ())
    names = renamed(queues)
    known = app.amqp.queues
    chosen = [known[each] if isinstance(each, str) else each for each in consume_from or names or known]
    channel = conn.channel()

    def on_message(body: Any, message: Any) -> None:
        if wanted and task_name_of(body, message) not in wanted:
            return
        filter(body, message)
        progress.count += 1
        if ack_messages:
            message.ack()
        if callback is not None:
            callback(progress, body, message)
        if limit and progress.count >= limit:
            raise StopFiltering

    consumer: Consumer = app.amqp.TaskConsumer(channel, chosen, accept=accept, callbacks=[on_message])
    for queue in chosen:
        if names and queue.name not in names:
            continue
        if on_declare_queue is not None:
            on_declare_queue(queue)
        progress.total_apx += _waiting(conn, queue)
    with consumer:
        try:
            while True:
                try:
                    conn.drain_events(timeout=timeout)
                except TimeoutError:
                    if not forever:
                        return progress
        except StopFiltering:
            return progress


def _waiting(conn: Any, queue: Any) -> int:
    """How many messages wait; 0 if there is no such queue."""
    with conn.channel() as channel:
        try:
            return int(queue(channel).queue_declare(passive=True).message_count or 0)
        except conn.channel_errors:
            return 0


def renamed(queues: Any) -> dict[str, str]:
    """Return old and new names of ``"a,b:c"``, a list of such, or a mapping."""
    if isinstance(queues, Mapping):
        return dict(queues)
    entries = queues.split(",") if isinstance(queues, str) else queues or ()
    pairs = (entry.partition(":") for entry in entries if entry)
    return {old: new or old for old, _, new in pairs}


def move_task_by_id(task_id: str, dest: Any, **options: Any) -> State:
    """Move the task of an id to a queue; options as :func:`move`."""
    return move_by_idmap({task_id: dest}, **options)


def move_by_idmap(map: Mapping[str, Any], **options: Any) -> State:
    """Move tasks as a mapping from ids to queues says; ends when all were found. Options as :func:`move`."""
    return move(lambda body, message: map.get(task_id_of(body, message)), limit=len(map), **options)


def move_by_taskmap(map: Mapping[str, Any], **options: Any) -> State:
    """Move tasks as a mapping from task names to queues says; options as :func:`move`."""
    return move(lambda body, message: map.get(task_name_of(body, message)), **options)


#: As those without ``direct``, to the queues of single workers (``worker_direct``), which are given by their names.
move_direct = partial(move, transform=worker_direct)
move_direct_by_id = partial(move_task_by_id, transform=worker_direct)
move_direct_by_idmap = partial(move_by_idmap, transform=worker_direct)
move_direct_by_taskmap = partial(move_by_taskmap, transform=worker_direct)

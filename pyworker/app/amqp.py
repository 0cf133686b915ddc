"""What ``app.amqp`` has: queues and routes by the present settings, and kombu's producers and consumers for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import kombu
from kombu import Exchange, Queue

from pyworker.routing import Router, as_queue
from pyworker.transport.amqp_queues import kombu_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.app import Celery
    from pyworker.conf import Settings


class Queues(Mapping[str, Queue]):
    """The app's queues by name, as ``kombu.Queue``; one that is not configured is made up if the settings allow it."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf

    def __getitem__(self, name: str) -> Queue:
        return kombu_queue(self._conf, Router(self._conf), name)

    def __iter__(self) -> Iterator[str]:
        return iter(Router(self._conf).names())

    def __len__(self) -> int:
        return len(Router(self._conf).names())

    def __contains__(self, name: object) -> bool:
        return name in Router(self._conf).names()

    @property
    def consume_from(self) -> dict[str, Queue]:
        """What a worker consumes from unless ``-Q`` says otherwise."""
        return dict(self)

    def add(self, queue: Any, **options: Any) -> Queue:
        """Add a queue to ``task_queues``.

        Args:
            queue: a ``kombu.Queue`` or a name.
            options: ``exchange``, ``exchange_type`` and ``routing_key`` of a name.
        """
        if isinstance(queue, str):
            exchange = Exchange(
                options.get("exchange") or self._conf.task_default_exchange or queue,
                type=options.get("exchange_type") or self._conf.task_default_exchange_type,
            )
            queue = Queue(queue, exchange, routing_key=options.get("routing_key") or queue)
        present = [known for known in self.values() if known.name != queue.name]
        self._conf.task_queues = [*present, queue]
        return queue


class AMQP:
    """Parts of an application that concern messages, where other code asks for them. Tasks do not pass here."""

    Connection = kombu.Connection
    Consumer = kombu.Consumer
    #: A producer; give it a connection or channel.
    Producer = kombu.Producer

    def __init__(self, app: Celery) -> None:
        self.app = app

    @property
    def queues(self) -> Queues:
        """The queues."""
        return Queues(self.app.conf)

    @property
    def router(self) -> Router:
        """The router: ``router.route(options, name, args, kwargs, task)``."""
        return Router(self.app.conf)

    @property
    def routes(self) -> Any:
        """``task_routes`` as they are set."""
        return self.app.conf.task_routes

    @property
    def default_queue(self) -> Queue:
        """The queue of tasks that no route is for."""
        return self.queues[self.app.conf.task_default_queue]

    @property
    def default_exchange(self) -> Exchange:
        """The exchange of the default queue."""
        found = as_queue(self.app.conf.task_default_queue, self.app.conf)
        return Exchange(found.exchange, type=found.exchange_type)

    @property
    def producer_pool(self) -> Any:
        """The app's pool of producers."""
        return self.app.producer_pool

    @property
    def utc(self) -> bool:
        """``enable_utc``."""
        return bool(self.app.conf.enable_utc)

    def TaskConsumer(
        self, channel: Any, queues: Iterable[Any] | None = None, accept: Iterable[str] | None = None, **options: Any
    ) -> Any:
        """Return a consumer of task messages.

        Args:
            channel: a connection or channel.
            queues: queues or their names; all that a worker would consume from if not given.
            accept: content types, ``accept_content`` if not given.
            options: of ``kombu.Consumer``.
        """
        known = self.queues
        wanted = known.values() if queues is None else queues
        return kombu.Consumer(
            channel,
            queues=[known[queue] if isinstance(queue, str) else queue for queue in wanted],
            accept=self.app.conf.accept_content if accept is None else accept,
            **options,
        )

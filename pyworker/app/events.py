"""``app.events``: the classes of :mod:`pyworker.events`, bound to an app."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyworker.events.dispatcher import EventDispatcher
from pyworker.events.receiver import EventReceiver
from pyworker.events.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyworker.app.base import Celery

__all__ = ["Events"]


class Events:
    """Events of one app. Subclasses may name other classes.

    Args:
        app: the application.
    """

    receiver_cls: type[EventReceiver] = EventReceiver
    dispatcher_cls: type[EventDispatcher] = EventDispatcher
    state_cls: type[State] = State

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._announcer: EventDispatcher | None = None

    @cached_property
    def Receiver(self) -> type[EventReceiver]:
        """The receiver of this app's events."""
        bound: type[EventReceiver] = self._bound(self.receiver_cls)
        return bound

    @cached_property
    def Dispatcher(self) -> type[EventDispatcher]:
        """The dispatcher of this app's events."""
        bound: type[EventDispatcher] = self._bound(self.dispatcher_cls)
        return bound

    @cached_property
    def State(self) -> type[State]:
        """The picture that this app's events draw."""
        bound: type[State] = self._bound(self.state_cls)
        return bound

    def _bound(self, kind: type[Any]) -> Any:
        # Pickled by the class that it is of: this one cannot be imported.
        reduce = {"__reduce__": _reduced} if issubclass(kind, State) else {}
        return type(kind.__name__, (kind,), {"app": self.app, "__module__": kind.__module__, **reduce})

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[EventDispatcher]:
        """Give a dispatcher on a producer of the app's pool, for the time of a ``with`` block.

        Args:
            hostname: who sends.
            enabled: whether to send at all.
            buffer_while_offline: keep what cannot be sent; without it sending raises.

        Raises:
            OperationalError: no connection is free or can be made.
        """
        with (
            self.app.producer_or_acquire() as producer,
            self.Dispatcher(
                producer.connection, hostname, enabled, producer.channel, buffer_while_offline
            ) as dispatcher,
        ):
            yield dispatcher

    def announce(self, type: str, fields: dict[str, Any], producer: Any, **options: Any) -> None:
        """Send an event of this client (``task-sent``) through a producer; options as of ``Dispatcher.publish``."""
        if self._announcer is None or self._announcer.pid != os.getpid():
            self._announcer = self.Dispatcher(enabled=False, buffer_while_offline=False)
        self._announcer.publish(type, fields, producer, **options)


def _reduced(state: State) -> tuple[Any, ...]:
    _kind, *rest = State.__reduce__(state)
    return type(state).__mro__[1], *rest

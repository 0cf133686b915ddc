"""Events: what workers and clients tell monitors, under the names of Celery's package.

:class:`EventReceiver` receives them, :class:`pyworker.events.state.State` keeps the picture that they draw, and
:class:`EventDispatcher` sends them. An app has all three bound to itself in ``app.events``.
"""

from __future__ import annotations

from pyworker.events.dispatcher import EventDispatcher
from pyworker.events.event import Event, event_exchange, get_exchange, group_from
from pyworker.events.receiver import EventReceiver

__all__ = ["Event", "EventDispatcher", "EventReceiver", "event_exchange", "get_exchange", "group_from"]

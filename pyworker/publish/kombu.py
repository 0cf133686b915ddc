"""The way of messages out of here where kombu alone knows the broker: nothing is encoded ahead of its producer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.publish.messages import Message
    from pyworker.publish.outlets import Outgoing
    from pyworker.routing import Destination


class KombuOutlet:
    """Leaves every message to the app's pool of producers (``pyworker.publish.through_kombu``)."""

    def template(self, name: str, destination: Destination, **settings: Any) -> None:
        """There are no templates: the transport writes the message."""

    def wrap(self, message: Message, destination: Destination) -> None:
        """There is no envelope of ours."""

    def push(self, outgoing: Outgoing, retry: bool | None = None, policy: Mapping[str, Any] | None = None) -> None:
        """Refuse: nothing was encoded for it."""
        raise ImproperlyConfigured("this broker is reached through kombu only; an encoded message cannot be sent")

    def push_many(self, outgoing: Sequence[Outgoing]) -> None:
        """Refuse, as :meth:`push`."""
        if outgoing:
            self.push(outgoing[0])

    def close(self) -> None:
        """The producers' pool is the app's."""

"""Messages of plain calls, filled into precomputed JSON: what :mod:`pyworker.publish.messages` makes of the same call.

A plain call has arguments and nothing else: no links, no times, no headers, the JSON serializer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pyworker.identifiers import origin, reply_address, uuid
from pyworker.publish.encoding import encode_json
from pyworker.routing import Destination
from pyworker.saferepr import repr_of_arguments, repr_of_keyword_arguments

_NOTHING_FOLLOWS = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_NULL = b"null"


class Template:
    """The constant parts of one task's messages."""

    __slots__ = ("_head", "_limits", "_origin", "_properties_end", "_repr_levels", "_tail", "priority", "queue")

    def __init__(
        self,
        name: str,
        destination: Destination,
        *,
        priority: int,
        time_limits: tuple[Any, Any],
        ignore_result: bool | None,
        repr_levels: int,
    ) -> None:
        encode = orjson.dumps
        self.queue = destination.queue
        self.priority = priority
        self._repr_levels = repr_levels
        self._origin = origin()
        self._head = b'{"lang":"py","task":%s,"id":"' % encode(name)
        self._limits = b',"retries":0,"timelimit":%s,"root_id":"' % encode(time_limits)
        self._tail = (
            b',"origin":%s,"ignore_result":%s,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}'
            % (encode(self._origin), encode(ignore_result))
        )
        info = {"exchange": destination.exchange, "routing_key": destination.routing_key}
        self._properties_end = (
            b'","delivery_mode":%d,"delivery_info":%s,"priority":%d,"body_encoding":"base64","delivery_tag":"'
            % (destination.delivery_mode, encode(info), priority)
        )

    def is_current(self) -> bool:
        """Whether this is still the process that the template names as origin."""
        return self._origin == origin()

    def headers(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        group_id: str | None = None,
        group_index: int | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
    ) -> bytes:
        """Return the headers; the ids must be plain texts (see :func:`is_plain_id`)."""
        identifier = task_id.encode()
        group = _NULL if group_id is None else b'"%s"' % group_id.encode()
        index = _NULL if group_index is None else b"%d" % group_index
        return b"".join(
            (
                self._head,
                identifier,
                b'","shadow":null,"eta":null,"expires":null,"group":',
                group,
                b',"group_index":',
                index,
                self._limits,
                identifier if root_id is None else root_id.encode(),
                b'","parent_id":',
                _NULL if parent_id is None else b'"%s"' % parent_id.encode(),
                b',"argsrepr":',
                encode_json(repr_of_arguments(args, self._repr_levels)),
                b',"kwargsrepr":',
                encode_json(repr_of_keyword_arguments(kwargs, self._repr_levels)) if kwargs else b'"{}"',
                self._tail,
            )
        )

    def properties(self, task_id: str) -> bytes:
        """Return the properties with a new delivery tag."""
        return b"".join(
            (
                b'{"correlation_id":"',
                task_id.encode(),
                b'","reply_to":"',
                reply_address().encode(),
                self._properties_end,
                uuid().encode(),
                b'"}',
            )
        )

    def body(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Return the body."""
        return b"".join((b"[", encode_json(args), b",", encode_json(kwargs) if kwargs else b"{}", _NOTHING_FOLLOWS))


def is_plain_id(identifier: str) -> bool:
    """Whether an id can stand in JSON as it is."""
    return identifier.isascii() and identifier.isprintable() and '"' not in identifier and "\\" not in identifier

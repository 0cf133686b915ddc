"""Messages of plain calls, filled into precomputed JSON: what :mod:`pyworker.publish.messages` makes of the same call.

A plain call has arguments and nothing else: no links, no times, no headers, the JSON serializer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pyworker._native import build_envelope
from pyworker.identifiers import delivery_tag, origin, reply_address
from pyworker.publish.encoding import JSON_ENCODING, JSON_TYPE, encode_json
from pyworker.routing import Destination
from pyworker.saferepr import repr_of_arguments, repr_of_keyword_arguments

_NOTHING_FOLLOWS = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_NOTHING_AND_NO_NAMES = b",{}" + _NOTHING_FOLLOWS
_NULL = b"null"
_SCALARS = frozenset({str, int, bool, type(None)})


class Template:
    """The constant parts of one task's messages."""

    __slots__ = ("_before_group", "_before_root", "_head", "_origin", "_properties_end", "_repr_levels", "_tail",
                 "priority", "queue")  # fmt: skip

    #: Whether a message has a priority even if nobody gave it one: it is part of kombu's envelopes.
    always_says_priority = True
    #: Makes one message of its parts.
    wrap = staticmethod(build_envelope)

    def __init__(
        self,
        name: str,
        destination: Destination,
        *,
        priority: int,
        says_priority: bool,
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
        self._before_group = b'","shadow":null,"eta":null,"expires":null,"group":'
        self._before_root = b',"retries":0,"timelimit":%s,"root_id":"' % encode(time_limits)
        self._tail = (
            b',"origin":%s,"ignore_result":%s,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}'
            % (encode(self._origin), encode(ignore_result))
        )
        info = {"exchange": destination.exchange, "routing_key": destination.routing_key}
        said = b'"priority":%d,' % priority if says_priority or self.always_says_priority else b""
        self._properties_end = (
            b'","delivery_mode":%d,"delivery_info":%s,%s"body_encoding":"base64","delivery_tag":"'
            % (destination.delivery_mode, encode(info), said)
        )

    def is_current(self) -> bool:
        """Whether this is still the process that the template names as origin."""
        return self._origin == origin()

    def envelope(
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
        """Return a whole message; the ids must be plain texts (see :func:`pyworker.identifiers.is_plain_id`)."""
        identifier = task_id.encode()
        headers = b"".join(
            (
                self._head,
                identifier,
                self._before_group,
                _NULL if group_id is None else b'"%s"' % group_id.encode(),
                b',"group_index":',
                _NULL if group_index is None else b"%d" % group_index,
                self._before_root,
                identifier if root_id is None else root_id.encode(),
                b'","parent_id":',
                _NULL if parent_id is None else b'"%s"' % parent_id.encode(),
                b',"argsrepr":',
                _text(repr_of_arguments(args, self._repr_levels)),
                b',"kwargsrepr":',
                _text(repr_of_keyword_arguments(kwargs, self._repr_levels)) if kwargs else b'"{}"',
                self._tail,
            )
        )
        properties = b"".join(
            (
                b'{"correlation_id":"',
                identifier,
                b'","reply_to":"',
                reply_address().encode(),
                self._properties_end,
                delivery_tag().encode(),
                b'"}',
            )
        )
        if kwargs:
            body = b"".join((b"[", _values(args), b",", encode_json(kwargs), _NOTHING_FOLLOWS))
        else:
            body = b"".join((b"[", _values(args), _NOTHING_AND_NO_NAMES))
        return self.wrap(body, headers, properties, JSON_TYPE, JSON_ENCODING)


def _values(args: Sequence[Any]) -> bytes:
    for value in args:
        if type(value) not in _SCALARS:
            return encode_json(args)
    try:
        return orjson.dumps(args)
    except TypeError:
        return encode_json(args)


def _text(text: str) -> bytes:
    try:
        return orjson.dumps(text)
    except TypeError:
        return encode_json(text)

"""Messages of plain calls, filled into precomputed JSON: what :mod:`pyworker.publish.messages` makes of the same call.

A plain call has arguments and nothing else: no links, no times, no headers, the JSON serializer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from pyworker._native import build_envelope, fill_messages, uuids_of
from pyworker.identifiers import delivery_tag, origin, reply_address, uuid
from pyworker.publish.encoding import JSON_ENCODING, JSON_TYPE, encode_json
from pyworker.routing import Destination
from pyworker.saferepr import repr_of_arguments, repr_of_keyword_arguments

_NOTHING_FOLLOWS = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_NOTHING_AND_NO_NAMES = b",{}" + _NOTHING_FOLLOWS
_NULL = b"null"
_SCALARS = frozenset({str, int, bool, type(None)})


class SeriesParts(NamedTuple):
    """What the messages of a series have in common, in the order in which it stands in them; read natively."""

    head: bytes
    before_index: bytes
    before_root: bytes
    #: Each task is its own root if there is none.
    root_id: str | None
    before_repr: bytes
    headers_end: bytes
    properties_head: bytes
    before_tag: bytes
    tag_head: str
    body_end: bytes
    #: The first one's place in the group.
    first_index: int | None
    is_amqp: bool


def new_ids(count: int) -> list[str]:
    """Return new random ids of tasks."""
    return uuids_of(os.urandom(16 * count))


class Template:
    """The constant parts of one task's messages."""

    __slots__ = ("_before_group", "_before_root", "_head", "_origin", "_properties_end", "_repr_levels", "_tail",
                 "priority", "queue")  # fmt: skip

    #: Whether a message has a priority even if nobody gave it one: it is part of kombu's envelopes.
    always_says_priority = True
    #: Makes one message of its parts.
    wrap = staticmethod(build_envelope)
    #: Whether messages are RabbitMQ's.
    is_amqp = False

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
                _quoted(group_id),
                b',"group_index":',
                _NULL if group_index is None else b"%d" % group_index,
                self._before_root,
                identifier if root_id is None else root_id.encode(),
                b'","parent_id":',
                _quoted(parent_id),
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

    def messages(
        self,
        ids: list[str],
        arguments: list[tuple[Any, ...]],
        *,
        group_id: str | None = None,
        group_index: int | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        chord: Any = None,
    ) -> list[bytes | None]:
        """Return whole messages of calls with positional arguments alone; None where they are not plain.

        Args:
            ids, arguments: the calls.
            group_id, root_id, parent_id: plain texts.
            group_index: the first one's place in the group; the others follow.
            chord: the body of the chord whose header this is.
        """
        follows = _NOTHING_AND_NO_NAMES
        if chord is not None:
            follows = b',{},{"callbacks":null,"errbacks":null,"chain":null,"chord":%s}]' % encode_json(chord)
        parts = SeriesParts(
            head=self._head,
            before_index=b"".join((self._before_group, _quoted(group_id), b',"group_index":')),
            before_root=self._before_root,
            root_id=root_id,
            before_repr=b'","parent_id":%s,"argsrepr":' % _quoted(parent_id),
            headers_end=b',"kwargsrepr":"{}"' + self._tail,
            properties_head=b'{"correlation_id":"',
            before_tag=b'","reply_to":"%s%s' % (reply_address().encode(), self._properties_end),
            # Numbers follow it, so that no other message has the same tag.
            tag_head=uuid()[:24],
            body_end=follows,
            first_index=group_index,
            is_amqp=self.is_amqp,
        )
        return fill_messages(parts, ids, arguments)


def _quoted(identifier: str | None) -> bytes:
    return _NULL if identifier is None else b'"%s"' % identifier.encode()


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

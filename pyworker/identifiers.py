"""Identifiers: task ids, this process's name in messages, reply addresses. Safe across threads and forks."""

from __future__ import annotations

import os
import threading
from itertools import count

#: Ids made at a time; each takes 16 bytes of the system's randomness.
_BLOCK = 128
_VARIANT = "89ab"

#: Raw hexadecimal ids not yet handed out. ``list.pop`` is atomic, so threads need no lock.
_reserve: list[str] = []
_thread = threading.local()
_origin = ""
_tag_head = ""
_tag_numbers = count()


def _refill() -> str:
    """Make a block of ids, keep all but one."""
    text = os.urandom(16 * _BLOCK).hex()
    made = [text[start : start + 32] for start in range(0, len(text), 32)]
    first = made.pop()
    _reserve.extend(made)
    return first


def uuid() -> str:
    """Return a new random (version 4) UUID as text."""
    try:
        digits = _reserve.pop()
    except IndexError:
        digits = _refill()
    variant = _VARIANT[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def delivery_tag() -> str:
    """Return an id of one message: unique, but not unpredictable, and so much cheaper than :func:`uuid`."""
    global _tag_head
    if not _tag_head:
        _tag_head = uuid()[:24]
    return f"{_tag_head}{next(_tag_numbers):012x}"


def origin() -> str:
    """Return the name of this process in the ``origin`` header."""
    global _origin
    if not _origin:
        _origin = f"gen{os.getpid()}@{os.uname().nodename}"
    return _origin


def reply_address() -> str:
    """Return the id under which this thread would wait for replies (the ``reply_to`` property)."""
    try:
        return _thread.reply_address  # type: ignore[no-any-return]
    except AttributeError:
        _thread.reply_address = address = uuid()
        return address


def is_plain_id(identifier: str) -> bool:
    """Whether an id can stand in JSON as it is."""
    return identifier.isascii() and identifier.isprintable() and '"' not in identifier and "\\" not in identifier


def _forget() -> None:
    """A forked child shares none of its parent's identifiers."""
    global _origin, _tag_head, _thread
    _reserve.clear()
    _origin = _tag_head = ""
    _thread = threading.local()


os.register_at_fork(after_in_child=_forget)

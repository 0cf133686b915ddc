"""Bounded ``repr`` for arguments in messages, events and logs: the texts of Celery's ``saferepr``.

A value is turned into tokens; each token may take what is left of the budget, the first one that finds it
used up becomes ``, ...``, and then only brackets that are open are closed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

#: Longest text of ``argsrepr`` and ``kwargsrepr``.
MAX_CHARACTERS = 1024


class _Bracket(NamedTuple):
    """A bracket or a separator: never cut. ``step`` is what it does to the depth."""

    text: str
    step: int


class _Text(NamedTuple):
    """The repr of a leaf, cut to the budget."""

    text: str


class _Quoted(NamedTuple):
    """A string or bytes value: cut before it is quoted."""

    value: str | bytes


class _Key(NamedTuple):
    """A mapping's key: it has the budget for itself."""

    value: Any


_Token = _Bracket | _Text | _Quoted | _Key
_SEPARATOR = _Bracket(", ", 0)
_COLON = _Bracket(": ", 0)


def truncate(text: str, limit: int, suffix: str = "...") -> str:
    """Cut a text at the last space before the limit."""
    if limit and len(text) >= limit:
        return text[:limit].rsplit(" ", 1)[0] + suffix
    return text


def saferepr(value: object, max_characters: int | None = None, max_levels: int = 3) -> str:
    """Return a repr that is bounded in length and depth and never raises."""
    return "".join(_pieces(value, max_characters, max_levels))


def _pieces(value: object, budget: int | None, max_levels: int) -> Iterator[str]:
    tokens = _tokens(value, max_levels)
    for token in tokens:
        if budget is not None and budget <= 0:
            if isinstance(token, _Bracket) and token.step < 0:
                yield token.text
                continue
            yield ", ..."
            yield from _closing(token, tokens)
            return
        piece = _render(token, budget, max_levels)
        yield piece
        if budget is not None:
            budget -= len(piece)


def _closing(token: _Token, rest: Iterator[_Token]) -> Iterator[str]:
    """The closing brackets of what was shown before the cut."""
    depth = 0
    pending: _Token | None = token
    while pending is not None:
        if isinstance(pending, _Bracket):
            depth += pending.step
            if depth < 0:
                depth = 0
                yield pending.text
        pending = next(rest, None)


def _render(token: _Token, budget: int | None, max_levels: int) -> str:
    if isinstance(token, _Bracket):
        return token.text
    if isinstance(token, _Key):
        return saferepr(token.value, budget, max_levels)
    if isinstance(token, _Quoted):
        return _quote(token.value, budget)
    return truncate(token.text, budget or 0)


def _quote(value: str | bytes, budget: int | None) -> str:
    if isinstance(value, bytes):
        cut = value[:budget] if budget and len(value) > budget else value
        try:
            text = cut.decode()
        except UnicodeDecodeError:
            text = cut.hex()
        return f"b'{text}...'" if cut is not value else f"b'{text}'"
    escaped = truncate(value, budget or 0).replace("'", "\\'")
    return f"'{escaped}'"


def _leaf(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        # Not at the top: this hardly ever happens.
        import traceback

        stack = "\n".join(traceback.format_stack())
        return f"<Unrepresentable {type(value)!r}{id(value):#x}: {error!r} {stack!r}>"


def _brackets(value: Any) -> tuple[str, str] | None:
    """The brackets of a container, None if it is not shown as one."""
    if isinstance(value, (set, frozenset)):
        return ("{", "}") if type(value) is set else (f"{type(value).__name__}({{", "})")
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    return None


def _tokens(root: object, max_levels: int) -> Iterator[_Token]:
    """Walk a value without recursion."""
    open_ids: set[int] = set()
    stack: list[Iterator[Any]] = [iter((root,))]
    owners: list[int] = []
    closers: list[_Bracket] = []
    while True:
        item = next(stack[-1], _END)
        if item is _END:
            stack.pop()
            if not stack:
                return
            open_ids.discard(owners.pop())
            yield closers.pop()
            continue
        if isinstance(item, (_Bracket, _Key)):
            yield item
            continue
        token = _scalar(item)
        if token is not None:
            yield token
            continue
        brackets = _brackets(item)
        if brackets is None:
            yield _Text(_leaf(item))
        elif max_levels and len(owners) >= max_levels:
            yield _Bracket(f"{brackets[0]}...{brackets[1]}", 0)
        elif id(item) in open_ids:
            yield _Text(f"<Recursion on {type(item).__name__} with id={id(item)}>")
        else:
            open_ids.add(id(item))
            owners.append(id(item))
            yield _Bracket(brackets[0], +1)
            closers.append(_Bracket(brackets[1], -1))
            stack.append(_pairs(item) if isinstance(item, dict) else _members(item))


_END = object()


def _scalar(value: object) -> _Token | None:
    if isinstance(value, Number):
        # A decimal shows its type; where the module is not loaded there are none.
        decimals = sys.modules.get("decimal")
        is_decimal = decimals is not None and isinstance(value, decimals.Decimal)
        return _Text(_leaf(value) if is_decimal else str(value))
    if isinstance(value, (str, bytes)):
        return _Quoted(value)
    if isinstance(value, (set, frozenset)) and not value:
        return _Text(f"{type(value).__name__}()")
    return None


def _members(values: Any) -> Iterator[Any]:
    for index, value in enumerate(values):
        if index:
            yield _SEPARATOR
        yield value


def _pairs(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    for index, (key, value) in enumerate(mapping.items()):
        if index:
            yield _SEPARATOR
        yield _Key(key)
        yield _COLON
        yield value


def repr_of_arguments(args: Sequence[Any], max_levels: int = 3) -> str:
    """Return ``argsrepr``. The common case, a few short plain values, takes no walk."""
    if type(args) is tuple and len(args) <= 8:
        parts = []
        for value in args:
            kind = type(value)
            if kind is int or kind is bool or value is None:
                parts.append(str(value))
            elif kind is str:
                parts.append("'" + value.replace("'", "\\'") + "'")
            else:
                break
        else:
            text = f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
            if len(text) <= MAX_CHARACTERS:
                return text
    return saferepr(args, MAX_CHARACTERS, max_levels)


def repr_of_keyword_arguments(kwargs: Mapping[str, Any], max_levels: int = 3) -> str:
    """Return ``kwargsrepr``."""
    return saferepr(kwargs, MAX_CHARACTERS, max_levels) if kwargs else "{}"

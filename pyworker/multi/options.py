"""The command line of ``multi``: names, options for all nodes, options for some.

``3`` as the only name means three nodes. ``-c:1-3 10`` is an option for nodes 1 to 3, ``-c:image,video 10`` for nodes
by name; a number is always a position in the list of names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Options in the order given, their value if they have one.
Options = dict[str, "str | None"]


class MultiUsageError(Exception):
    """The command line makes no sense."""


@dataclass
class ParsedLine:
    """What stands on the command line.

    Attributes:
        names: words that are no options.
        options: for all nodes.
        scoped: options for some, by what follows the colon.
        passthrough: everything from ``--`` on.
    """

    names: list[str] = field(default_factory=list)
    options: Options = field(default_factory=dict)
    scoped: dict[str, Options] = field(default_factory=dict)
    passthrough: list[str] = field(default_factory=list)


def parse_line(words: Sequence[str]) -> ParsedLine:
    """Take a command line apart."""
    line = ParsedLine()
    rest = [word for word in words if word]
    while rest:
        word = rest.pop(0)
        if word == "--":
            line.passthrough = [word, *rest]
            break
        if word.startswith("--"):
            name, separator, value = word.partition("=")
            _add(line, name, value if separator else None)
        elif word.startswith("-") and len(word) > 1:
            has_value = bool(rest) and not rest[0].startswith("-")
            _add(line, word, rest.pop(0) if has_value else None)
        else:
            line.names.append(word)
    return line


def _add(line: ParsedLine, name: str, value: str | None) -> None:
    option, separator, scope = name.partition(":")
    target = line.scoped.setdefault(scope, {}) if separator else line.options
    target[option] = value


def options_by_name(line: ParsedLine, names: Sequence[str], *, is_count: bool) -> Mapping[str, Options]:
    """The options for some nodes, by the node's name as given.

    Args:
        line: the command line.
        names: all names; positions if the nodes were given as a count.
        is_count: whether they were, so that a dash in a scope is a range and not part of a name.

    Raises:
        MultiUsageError: a position is beyond the list of names.
    """
    found: dict[str, Options] = {}
    for scope, options in line.scoped.items():
        for member in _members(scope, is_count=is_count):
            for name in _named(member, names, is_single=member == scope):
                found.setdefault(name, {}).update(options)
    return found


def _members(scope: str, *, is_count: bool) -> Iterable[str]:
    for part in scope.split(","):
        first, dash, last = part.partition("-")
        if dash and is_count:
            try:
                yield from map(str, range(int(first), int(last) + 1))
            except ValueError:
                raise MultiUsageError(f"{part!r} is no range of positions") from None
        else:
            yield part


def _named(member: str, names: Sequence[str], *, is_single: bool) -> list[str]:
    if not member.isdigit():
        return [member]
    position = int(member)
    if position < 1:
        raise MultiUsageError(f"Indexes start at 1 got: {member!r}")
    if position <= len(names):
        return [names[position - 1]]
    if is_single:
        raise MultiUsageError(f"No node at index {member!r}")
    return []  # a range may reach further than the nodes do

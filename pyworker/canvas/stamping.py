"""Stamps: headers that mark tasks, put on whole workflows by hand or by a visitor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworker.canvas.chord import chord
    from pyworker.canvas.group import group

#: The option that lists the names of the stamps among the options.
STAMPED = "stamped_headers"


class StampingVisitor(ABC):
    """Says, for every part of a workflow, which stamps it gets.

    Each method is given the stamps collected so far as keyword arguments and returns further ones; names listed under
    ``stamped_headers`` are stamps, and without such a list all of them are.
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of a task's signature."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of a group, which go to its tasks."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027 - nothing to do unless overridden
        """Called when a group's tasks are stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of a chain, which go to its tasks."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027
        """Called when a chain's tasks are stamped."""

    def on_chord_header_start(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Return the stamps of a chord's header: as a group's, unless overridden."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: chord, **header: Any) -> None:
        """Called when a chord's header is stamped."""
        header_group: group = sig.header_group()
        self.on_group_end(header_group, **header)

    def on_chord_body(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Return the stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of a linked callback."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        """Return the stamps of a linked error callback."""
        return {}


def merged_stamps(
    given: Mapping[str, Any],
    visited: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
    *,
    appends: bool,
) -> dict[str, Any]:
    """Merge stamps given by the caller, by a visitor, and those that a signature has; the first of them wins.

    Args:
        given: the caller's; all of them are stamps unless ``stamped_headers`` lists them.
        visited: the visitor's, by the same rule; None without a visitor.
        own: the options of the signature; None if they do not count.
        appends: keep all values of a stamp, in a list. Values that are lists both are always put together.
    """
    stamps = _listing(given)
    if visited is not None:
        _merge(stamps, _listing(visited), appends)
    if own is not None:
        names = list(dict.fromkeys([*stamps[STAMPED], *(own.get(STAMPED) or ())]))
        stamps[STAMPED] = names
        _merge(stamps, {name: own[name] for name in names if name in own}, appends)
    return stamps


def _listing(stamps: Mapping[str, Any]) -> dict[str, Any]:
    return {**stamps, STAMPED: list(stamps.get(STAMPED, stamps))}


def _merge(stamps: dict[str, Any], more: Mapping[str, Any], appends: bool) -> None:
    for name, value in more.items():
        present = stamps.get(name)
        if name == STAMPED:
            stamps[name] = list(dict.fromkeys([*stamps[name], *value]))
        elif name not in stamps:
            stamps[name] = value
        elif isinstance(present, list) and isinstance(value, list):
            stamps[name] = [*present, *value]
        elif appends:
            stamps[name] = [*_values(present), *(value if isinstance(value, list) else [value])]


def _values(present: Any) -> list[Any]:
    if present is None:
        return []
    return list(present) if isinstance(present, (list, tuple, set, frozenset)) else [present]

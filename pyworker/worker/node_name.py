"""Names of worker nodes, ``name@host.domain``, and the ``%`` abbreviations for their parts in options."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_NAME = "celery"
_ABBREVIATION = re.compile(r"%(\w|%)")


def split_node_name(node_name: str) -> tuple[str | None, str]:
    """The name before the first ``@``, if any, and the host."""
    name, separator, host = node_name.partition("@")
    return (name, host) if separator else (None, name)


def default_node_name(given: str | None) -> str:
    """A complete node name from what ``-n`` gave; whatever half is missing is filled in."""
    name, host = split_node_name(given or "")
    return f"{name or DEFAULT_NAME}@{host or socket.gethostname()}"


def expand_host(text: str) -> str:
    """Expand ``%h`` ``%n`` ``%d`` in a node name: of this machine, since the node has no name yet."""
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    return expand(text, {"h": host, "n": short, "d": domain, "i": "0", "I": ""})


def expand_node(text: str, node_name: str) -> str:
    """Expand ``%p`` (node name), ``%n`` ``%h`` ``%d`` (its parts) and ``%i`` ``%I`` (pool index: the parent's)."""
    name, host = split_node_name(node_name)
    host = host or socket.gethostname()
    values = {"p": node_name, "n": name or DEFAULT_NAME, "h": host, "d": host.partition(".")[2], "i": "0", "I": ""}
    return expand(text, values)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace every ``%`` abbreviation by its value, ``%%`` by a percent sign.

    Raises:
        ValueError: an abbreviation is unknown.
    """

    def replace(match: re.Match[str]) -> str:
        key = match.group(1)
        if key == "%":
            return "%"
        try:
            return values[key]
        except KeyError:
            raise ValueError(f"Unknown format %{key} in string {text!r}. Did you mean %%{key}?") from None

    return _ABBREVIATION.sub(replace, text)

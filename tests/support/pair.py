"""A stock worker and one of ours, side by side on servers of their own, for comparing what they say."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.kinds import KINDS, OWN, STOCK
from support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FLOAT = re.compile(r"\b\d+\.\d+(e-?\d+)?\b")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_PORT = re.compile(r"127\.0\.0\.1:\d+")


@contextmanager
def pair(
    kind: str,
    *,
    app: str = "tasks",
    options: Iterable[str] = ("-c", "2"),
    environment: Mapping[str, str] | None = None,
    stage: type[Stage] = Stage,
) -> Iterator[tuple[Any, Any]]:
    """Open a stock worker's stage and that of a kind of ours, with the same node name.

    Args:
        kind: the name of a kind of ours.
        app: a module of ``tests/apps``.
        options: the workers' options.
        environment: of both workers; ``pyworker-own`` gets the library besides.
        stage: where broker and results are.
    """
    options = (*options, "-n", "pair@%h")
    ours = OWN if kind == OWN.name else KINDS[kind]
    library = {"TEST_LIBRARY": "pyworker"} if ours is OWN else {}
    with (
        stage(STOCK, app, options=options, environment=environment) as stock_stage,
        stage(ours, app, options=options, environment={**(environment or {}), **library}) as our_stage,
    ):
        yield stock_stage, our_stage


def plain(value: Any) -> Any:
    """Return a value with everything put away that differs by nature: ids, times, addresses, ports."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return "<float>"
    if isinstance(value, str):
        for pattern, name in ((_UUID, "<id>"), (_ADDRESS, "<address>"), (_PORT, "<server>"), (_FLOAT, "<float>")):
            value = pattern.sub(name, value)
    return value


def shape(value: Any) -> Any:
    """Return a value's form alone: keys and types."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape(value[0])] if value else []
    return type(value).__name__

"""``graph``: boot steps, or workers with their broker and children, in Graphviz's dot language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.commands import AppCommand, AppGroup, told_when_unavailable
from pyworker.operations.protocol import NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyworker.cli.context import CliContext

#: How many workers, and children of each, are drawn before the rest becomes a dot-dot-dot.
_WORKERS_DRAWN = 4
_CHILDREN_DRAWN = 3
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@click.group(cls=AppGroup)
def graph() -> None:
    """Draw boot steps or workers, in the dot language."""


@graph.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@click.pass_context
def bootsteps(ctx: click.Context, /) -> None:
    """Draw the boot steps; arguments: worker, consumer, or both."""
    context: CliContext = ctx.obj
    include = frozenset(argument.lower() for argument in ctx.args) or frozenset(("worker", "consumer"))
    unknown = include - {"worker", "consumer"}
    if unknown:
        raise click.UsageError(f"no blueprint {', '.join(sorted(unknown))}; there are worker and consumer")
    try:
        text = context.operations().boot_steps(include)
    except NotSupported as error:
        raise click.ClickException(str(error)) from error
    context.echo(text, nl=False)


@graph.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@click.pass_context
def workers(ctx: click.Context, /) -> None:
    """Draw the workers that answer.

    Arguments: nodes:a,b and threads:2,4 instead of asking, broker:URL, backend:URL, wmax:N and tmax:N (0 for all),
    enumerate, generic.
    """
    context: CliContext = ctx.obj
    operations = context.operations()
    given = dict(_argument(text) for text in ctx.args)
    with told_when_unavailable("graph workers"):
        if "nodes" in given:
            nodes = dict(
                zip(given["nodes"], [*map(int, given.get("threads", ())), *[0] * len(given["nodes"])], strict=False)
            )
        else:
            replies = operations.control.inspect().stats() or {}
            nodes = {node: int(reply["pool"]["max-concurrency"]) for node, reply in replies.items()}
        broker = _first(given, "broker") or operations.connection().as_uri()
    backend = _first(given, "backend") or operations.result_url()
    context.echo(_drawn(nodes, broker, backend, given), nl=False)


def _argument(text: str) -> tuple[str, list[str]]:
    name, _, values = text.partition(":")
    return name, [values] if "://" in values else [value for value in values.split(",") if value]


def _first(given: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(given.get(name, ())), "")


def _limit(given: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    text = _first(given, name)
    try:
        return int(text) if text else default
    except ValueError:
        raise click.UsageError(f"{name} must be a number, got {text!r}") from None


def _drawn(nodes: Mapping[str, int], broker: str, backend: str, given: Mapping[str, Any]) -> str:
    is_generic, is_enumerated = "generic" in given, "enumerate" in given
    workers_drawn = _limit(given, "wmax", _WORKERS_DRAWN)
    children_drawn = _limit(given, "tmax", _CHILDREN_DRAWN)
    lines = ["digraph workers {", "    rankdir=BT;", '    node [fontname="Helvetica"];']
    lines.append(_node("broker", _label(broker, "Broker", is_generic), "shape=circle, fillcolor=cadetblue3"))
    if backend:
        lines.append(_node("backend", _label(backend, "Backend", is_generic), "shape=folder, fillcolor=peachpuff3"))
    for position, name in _abridged(list(nodes), workers_drawn):
        worker = f"worker{position}"
        label = f"Worker{_subscript(position)}" if is_enumerated else name
        lines.append(_node(worker, label, "shape=box, fillcolor=darkseagreen3"))
        lines.append(f"    {worker} -> broker;")
        if backend:
            lines.append(f"    {worker} -> backend;")
        for number, _child in _abridged([str(child) for child in range(nodes.get(name, 0))], children_drawn):
            child = f"{worker}_{number}"
            text = f"P{_subscript(number)}" if is_enumerated else str(number - 1)
            lines.append(_node(child, text, "shape=oval, fillcolor=lightcyan4, fontcolor=yellow"))
            lines.append(f"    {child} -> {worker} [arrowhead=none, arrowtail=tee];")
    return "\n".join([*lines, "}", ""])


def _abridged(names: list[str], most: int) -> Iterable[tuple[int, str]]:
    """Names with their positions from 1; of too many the first, a placeholder and the last."""
    numbered = list(enumerate(names, 1))
    if not most or len(names) <= most:
        return numbered
    head = numbered[: max(most - 2, 1)]
    return [*head, (len(head) + 1, f"…{len(names) - len(head) - 1} more"), numbered[-1]]


def _label(url: str, kind: str, is_generic: bool) -> str:
    return f"{kind} ({url.partition('://')[0]}://)" if is_generic else url


def _subscript(number: int) -> str:
    return str(number).translate(_SUBSCRIPTS)


def _node(name: str, label: str, style: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"')
    return f'    {name} [label="{escaped}", style=filled, {style}];'

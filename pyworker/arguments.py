"""Checks arguments at call time by calling an empty function with the task's parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect


def header_of(function: Callable[..., Any], *, is_bound: bool) -> Callable[..., Any] | None:
    """Return a function that does nothing but has the parameters, and thus the errors, of the task's.

    Args:
        function: the task's function.
        is_bound: whether it takes the task as its first argument.

    Returns:
        None if the parameters cannot be known.
    """
    # Not at the top: it takes longer to load than all of this package.
    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    name = getattr(function, "__name__", type(function).__name__)
    if not name.isidentifier():
        name = "task"
    namespace: dict[str, Any] = {}
    # The source holds parameter names only; defaults are never looked at.
    exec(f"def {name}({_written(parameters)}): pass", namespace)
    header: Callable[..., Any] = namespace[name]
    return partial(header, None) if is_bound else header


def _written(parameters: list[inspect.Parameter]) -> str:
    parts: list[str] = []
    has_star = False
    for position, parameter in enumerate(parameters):
        text = parameter.name + ("" if parameter.default is parameter.empty else "=None")
        if parameter.kind is parameter.VAR_POSITIONAL:
            text, has_star = f"*{parameter.name}", True
        elif parameter.kind is parameter.VAR_KEYWORD:
            text = f"**{parameter.name}"
        elif parameter.kind is parameter.KEYWORD_ONLY and not has_star:
            parts.append("*")
            has_star = True
        parts.append(text)
        following = parameters[position + 1].kind if position + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and following is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    return ", ".join(parts)

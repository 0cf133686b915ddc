"""Two functions under one task name: almost always a mistake, so it is said once per name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyworker.exceptions import DuplicateTaskNameWarning

if TYPE_CHECKING:
    from pyworker.task import Task


def warn_of_duplicate(known: Task[Any, Any], new: Callable[..., Any], *, replaces: bool = False) -> None:
    """Warn unless both are the same function, as when a module is imported twice.

    Args:
        known: the task that has the name.
        new: the function or class that wants it.
        replaces: whether the new one gets it.
    """
    old = getattr(type(known), "__wrapped__", type(known))
    if old is new or (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__):
        return
    # Not at the top: only mistakes need it.
    import warnings

    outcome = "the new one replaces it" if replaces else "calls under this name reach the first one"
    warnings.warn(
        f"The task name {known.name!r} is taken by {_full_name(old)}; {_full_name(new)} wants it too: {outcome}. "
        "Give one of them a name of its own (name=...).",
        DuplicateTaskNameWarning,
        stacklevel=4,
    )


def _full_name(found: Any) -> str:
    return f"{found.__module__}.{found.__qualname__}"

"""``task.request``: what a running task knows of its message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Keys of a message that describe it and are no headers of the user's.
_PROTOCOL_KEYS = frozenset({"lang", "task", "argsrepr", "kwargsrepr", "compression"})


class Context:
    """The request of one run. Unknown headers are attributes too, and all of them are in ``headers``."""

    _children: list[Any] | None = None
    _protected = 0
    args: Any = None
    callbacks: list[Any] | None = None
    called_directly = True
    chain: list[Any] | None = None
    chord: Any = None
    correlation_id: str | None = None
    delivery_info: dict[str, Any] | None = None
    errbacks: list[Any] | None = None
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: int | None = None
    headers: dict[str, Any] | None = None
    hostname: str | None = None
    id: str | None = None
    ignore_result: bool | None = False
    is_eager = False
    kwargs: Any = None
    logfile: str | None = None
    loglevel: int | None = None
    origin: str | None = None
    parent_id: str | None = None
    properties: dict[str, Any] | None = None
    retries = 0
    reply_to: str | None = None
    replaced_task_nesting = 0
    root_id: str | None = None
    shadow: str | None = None
    soft_time_limit: float | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    task: str | None = None
    taskset: str | None = None
    time_limit: float | None = None
    timelimit: list[float | None] | None = None
    utc: bool | None = None

    def __init__(self, *sources: Mapping[str, Any] | Iterable[tuple[str, Any]], **values: Any) -> None:
        self.update(*sources, **values)
        if self.headers is None:
            custom = {name: value for name, value in vars(self).items() if name not in KNOWN_KEYS}
            self.headers = custom or None

    def update(self, *sources: Mapping[str, Any] | Iterable[tuple[str, Any]], **values: Any) -> None:
        """Set attributes; ``timelimit`` sets ``time_limit`` and ``soft_time_limit`` as well."""
        before = vars(self).get("timelimit", KNOWN_KEYS)
        vars(self).update(*sources, **values)
        limits: Any = vars(self).get("timelimit", KNOWN_KEYS)
        if limits is not before:
            pair = [*limits, None, None][:2] if isinstance(limits, (list, tuple)) and len(limits) > 1 else [None, None]
            self.time_limit, self.soft_time_limit = pair

    def clear(self) -> None:
        """Forget everything."""
        vars(self).clear()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute or the default."""
        return getattr(self, name, default)

    def __getattr__(self, name: str) -> Any:
        # Only for names that nothing defines: type checkers learn that headers are attributes.
        raise AttributeError(f"the request has no {name!r}")

    @property
    def children(self) -> list[Any]:
        """Results of the tasks that this one sent."""
        if self._children is None:
            self._children = []
        return self._children

    def as_execution_options(self) -> dict[str, Any]:
        """Return the options that publish this request again: ids, links, limits and headers."""
        limits = self.timelimit or (None, None)
        options: dict[str, Any] = {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": limits[1],
            "time_limit": limits[0],
            "headers": {name: value for name, value in (self.headers or {}).items() if not _is_death_header(name)},
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
        }
        if self.stamps is not None and self.stamped_headers is not None:
            options["stamped_headers"] = self.stamped_headers
            options.update({name: value for name, value in self.stamps.items() if name in self.stamped_headers})
        return options

    def __repr__(self) -> str:
        return f"<Context: {vars(self)!r}>"


def _is_death_header(name: str) -> bool:
    """Headers of dead lettering would make a broker see a cycle."""
    return name.startswith(("x-death", "x-first-death", "x-last-death"))


#: Keys of a request that are no custom headers.
KNOWN_KEYS: frozenset[str] = frozenset(vars(Context)) | _PROTOCOL_KEYS

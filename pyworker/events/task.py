"""What events tell of one task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from pyworker import states

if TYPE_CHECKING:
    from pyworker.events.state import State
    from pyworker.events.worker import Worker

#: The state that an event leaves a task in, by the event's type without its group.
TASK_EVENT_TO_STATE = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "succeeded": states.SUCCESS,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}


class Task:
    """A task as its events describe it. Tasks of one id are equal.

    Each event sets an attribute of its own name (``received``, ``started``, ...) to its time, and one for each of its
    fields.

    Args:
        uuid: the task's id.
        cluster_state: the picture that it is part of.
        children: ids of the tasks that it sent.
        fields: attributes.
    """

    state: str = states.PENDING
    clock: int = 0
    name: str | None = None
    worker: Worker | None = None
    client: str | None = None
    timestamp: float | None = None
    received: float | None = None
    sent: float | None = None
    started: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    rejected: float | None = None
    args: Any = None
    kwargs: Any = None
    eta: Any = None
    expires: Any = None
    retries: int | None = None
    result: Any = None
    exception: str | None = None
    runtime: float | None = None
    traceback: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    root_id: str | None = None
    parent_id: str | None = None

    _fields: ClassVar[tuple[str, ...]] = (
        "uuid", "name", "state", "received", "sent", "started", "rejected", "succeeded", "failed", "retried",
        "revoked", "args", "kwargs", "eta", "expires", "retries", "worker", "result", "exception", "timestamp",
        "runtime", "traceback", "exchange", "routing_key", "clock", "client", "root", "root_id", "parent", "parent_id",
        "children",
    )  # fmt: skip
    _info_fields: ClassVar[tuple[str, ...]] = (
        "args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception", "exchange", "routing_key",
        "root_id", "parent_id",
    )  # fmt: skip
    #: What an event that comes too late may still tell, by the state that it stands for.
    merge_rules: ClassVar[dict[str, tuple[str, ...]]] = {
        states.RECEIVED: ("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires"),
    }

    def __init__(
        self,
        uuid: str | None = None,
        cluster_state: State | None = None,
        children: Iterable[str] | None = None,
        **fields: Any,
    ) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        known = {} if cluster_state is None else cluster_state.tasks
        self.children: WeakSet[Task] = WeakSet(known[task_id] for task_id in children or () if task_id in known)
        self.__dict__.update(fields)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take in an event.

        Args:
            type_: its type without the group; one of the user's own is a state by itself.
            timestamp: when it was sent.
            local_received: when it came.
            fields: what it carries.
        """
        state = TASK_EVENT_TO_STATE.get(type_)
        if state is None:
            state = type_.upper()
        else:
            setattr(self, type_, timestamp)
        told = dict(fields or {})
        if self._is_late(state):
            keep = self.merge_rules.get(state)
            if keep is not None:
                told = {name: value for name, value in told.items() if name in keep}
        else:
            told.update(state=state, timestamp=timestamp)
        self.__dict__.update(told)

    def _is_late(self, state: str) -> bool:
        """Whether a state comes before the one that is known already; a retry begins anew."""
        if states.RETRY in (state, self.state):
            return False
        return states.precedence(state) > states.precedence(self.state)

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] | None = None) -> dict[str, Any]:
        """Return what is known, for showing it.

        Args:
            fields: names of attributes, a choice of the usual ones if not given.
            extra: further ones.
        """
        names = [*(self._info_fields if fields is None else fields), *(extra or ())]
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain data; other tasks by their ids."""
        special = {"children": [task.id for task in self.children], "root": self.root_id, "parent": self.parent_id}
        return {name: special[name] if name in special else getattr(self, name) for name in self._fields}

    @property
    def id(self) -> str | None:
        """Its id."""
        return self.uuid

    @property
    def origin(self) -> str | None:
        """Where its last event came from."""
        return self.client if self.worker is None else self.worker.id

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @cached_property
    def parent(self) -> Task | None:
        """The task that sent it, if that is known."""
        return self._relative(self.parent_id)

    @cached_property
    def root(self) -> Task | None:
        """The first task of its workflow, if that is known."""
        return self._relative(self.root_id)

    def _relative(self, task_id: str | None) -> Task | None:
        if task_id is None or self.cluster_state is None:
            return None
        found: Task | None = self.cluster_state.tasks.data.get(task_id)
        return found

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.as_dict())

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


def _rebuilt(kind: type[Task], fields: dict[str, Any]) -> Task:
    # Found again by their ids, when asked for.
    return kind(**{name: value for name, value in fields.items() if name not in ("root", "parent")})

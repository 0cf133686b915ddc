"""The picture that events draw of workers and tasks, kept up with every event."""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, TypeAlias
from weakref import WeakSet, ref

from kombu.clocks import timetuple

from pyworker.events.bounded import RecentlyUsed
from pyworker.events.event import group_from
from pyworker.events.task import Task
from pyworker.events.worker import Worker, heartbeat_expires

__all__ = ["State", "Task", "Worker", "heartbeat_expires"]

# The classes by other names: inside of State theirs are attributes.
KnownTask: TypeAlias = Task
KnownWorker: TypeAlias = Worker
#: Called with the state and each event.
EventCallback = Callable[["State", dict[str, Any]], object]
#: Called with a worker.
WorkerCallback = Callable[[Worker], object]
_WORKER_NEEDS = ("hostname", "timestamp", "local_received")


class Index(defaultdict[str, "WeakSet[Task]"]):
    """Tasks by one of their properties: an item is a set, a call yields the same tasks by time, newest first."""

    def __init__(self, ordered: Callable[..., Iterator[tuple[str, Task]]]) -> None:
        super().__init__(WeakSet)
        self._ordered = ordered

    def __call__(self, name: str, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, Task]]:
        """Yield ``(id, task)``.

        Args:
            name: the property's value.
            limit: how many at most.
            reverse: newest first.
        """
        return self._ordered(name, limit, reverse)


class State:
    """Workers and tasks.

    Args:
        callback: called with the state and each event, before it is taken in.
        workers, tasks: mappings to begin with.
        taskheap: ignored but for its place; it is built from the tasks.
        max_workers_in_memory, max_tasks_in_memory: beyond these the least recently seen are forgotten.
        on_node_join, on_node_leave: called with a worker that is seen for the first time or online again, and with
            one that says that it goes.
        tasks_by_type, tasks_by_worker: ids of tasks by task name and by node, to begin with.
    """

    #: The classes that workers and tasks are made of.
    Worker: ClassVar[type[KnownWorker]] = Worker
    Task: ClassVar[type[KnownTask]] = Task
    #: So many events per task are kept in the order of their clocks.
    heap_multiplier: ClassVar[int] = 4
    #: The application of classes that are bound to one (``app.events.State``).
    app: Any = None

    def __init__(
        self,
        callback: EventCallback | None = None,
        workers: Any = None,
        tasks: Any = None,
        taskheap: list[Any] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: WorkerCallback | None = None,
        on_node_leave: WorkerCallback | None = None,
        tasks_by_type: Mapping[str, Iterable[str]] | None = None,
        tasks_by_worker: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.event_callback = callback
        self.workers: Any = RecentlyUsed(max_workers_in_memory) if workers is None else workers
        self.tasks: Any = RecentlyUsed(max_tasks_in_memory) if tasks is None else tasks
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        #: How many events were taken in, and how many tasks were received.
        self.event_count = 0
        self.task_count = 0
        #: Functions by group that take in the events of groups of the user's own.
        self.handlers: dict[str, Callable[[str, dict[str, Any]], Any]] = {}
        self._mutex = threading.Lock()
        self._seen_types: set[str] = set()
        self._orphans: RecentlyUsed[str, WeakSet[KnownTask]] = RecentlyUsed(max_tasks_in_memory)
        self._taskheap: list[Any] = [] if taskheap is None else taskheap
        for task in self.tasks.values():
            # A task that was rebuilt from a file belongs to this picture.
            task.cluster_state = self
        self.rebuild_taskheap()
        self.tasks_by_type = Index(self._tasks_by_type)
        self.tasks_by_worker = Index(self._tasks_by_worker)
        for index, given in ((self.tasks_by_type, tasks_by_type), (self.tasks_by_worker, tasks_by_worker)):
            for name, ids in (given or {}).items():
                index[name].update(self.tasks[task_id] for task_id in ids if task_id in self.tasks)

    # -- taking in

    def event(self, event: dict[str, Any]) -> Any:
        """Take in an event as a receiver gives it.

        Returns:
            ``((worker or task, whether it is new), type without group)``; what the handler of the event's group
            returned in place of the first; ``None`` for a group that nobody knows, or a worker event without
            what every one has.
        """
        with self._mutex:
            return self._event(event)

    def worker_event(self, type_: str, fields: Mapping[str, Any]) -> Any:
        """Take in a worker's event by its type without the group."""
        return self._event({**fields, "type": f"worker-{type_}"})[0]

    def task_event(self, type_: str, fields: Mapping[str, Any]) -> Any:
        """Take in a task's event by its type without the group."""
        return self._event({**fields, "type": f"task-{type_}"})[0]

    def _event(self, event: dict[str, Any]) -> Any:
        self.event_count += 1
        if self.event_callback is not None:
            self.event_callback(self, event)
        group = group_from(event["type"])
        subject = event["type"][len(group) + 1 :]
        handler = self.handlers.get(group)
        if handler is not None:
            return handler(subject, event), subject
        if group == "worker":
            return self._worker_event(subject, event)
        if group == "task":
            return self._task_event(subject, event), subject
        return None

    def _worker_event(self, subject: str, event: dict[str, Any]) -> Any:
        if any(name not in event for name in _WORKER_NEEDS):
            return None
        hostname = event["hostname"]
        is_leaving = subject == "offline"
        worker = _known(self.workers, hostname)
        is_new = worker is None and not is_leaving
        if worker is None:
            worker = self.Worker(hostname)
            if not is_leaving:
                self.workers[hostname] = worker
        worker.event(subject, event["timestamp"], event["local_received"], event)
        if self.on_node_join is not None and (is_new or subject == "online"):
            self.on_node_join(worker)
        if self.on_node_leave is not None and is_leaving:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return (worker, is_new), subject

    def _task_event(self, subject: str, event: dict[str, Any]) -> tuple[KnownTask, bool]:
        task_id, hostname = event["uuid"], event["hostname"]
        timestamp, clock = event["timestamp"], event["clock"]
        task, is_new = self.get_or_create_task(task_id)
        if subject == "sent":
            # By a client, which is no worker.
            task.client = origin = hostname
        else:
            worker, _ = self.get_or_create_worker(hostname)
            task.worker = worker
            worker.event(None, event["local_received"], timestamp)
            origin = worker.id
        self._put_into_order(timetuple(clock, timestamp, origin, ref(task)))
        if subject == "received":
            self.task_count += 1
        task.event(subject, timestamp, event["local_received"], event)
        if task.name is not None:
            self._seen_types.add(task.name)
            if is_new:
                self.tasks_by_type[task.name].add(task)
                self.tasks_by_worker[hostname].add(task)
        self._join_family(task)
        return task, is_new

    def _put_into_order(self, entry: Any) -> None:
        order = self._taskheap
        if len(order) >= self.max_tasks_in_memory * self.heap_multiplier:
            del order[0]
        if order and entry > order[-1]:
            order.append(entry)
        else:
            bisect.insort(order, entry)

    def _join_family(self, task: KnownTask) -> None:
        """Make the task a child of its parent, and the parent of children that were seen before it."""
        if task.parent_id:
            parent = self.tasks.get(task.parent_id)
            if parent is not None:
                parent.children.add(task)
            else:
                if task.parent_id not in self._orphans:
                    self._orphans[task.parent_id] = WeakSet()
                self._orphans[task.parent_id].add(task)
        children = self._orphans.pop(str(task.uuid), None)
        if children is not None:
            task.children.update(children)

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[KnownWorker, bool]:
        """Return a worker and whether it is new; ``kwargs`` are set on it."""
        worker = _known(self.workers, hostname)
        if worker is not None:
            worker.update(kwargs)
            return worker, False
        self.workers[hostname] = worker = self.Worker(hostname, **kwargs)
        return worker, True

    def get_or_create_task(self, uuid: str) -> tuple[KnownTask, bool]:
        """Return a task and whether it is new."""
        task = _known(self.tasks, uuid)
        if task is not None:
            return task, False
        self.tasks[uuid] = task = self.Task(uuid, cluster_state=self)
        return task, True

    # -- forgetting

    def freeze_while(self, fun: Callable[..., Any], *args: Any, clear_after: bool = False, **kwargs: Any) -> Any:
        """Call a function while nothing is taken in; returns what it returns.

        Args:
            fun: the function.
            args, kwargs: its arguments.
            clear_after: forget everything but running tasks afterwards.
        """
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self._clear()

    def clear(self, ready: bool = True) -> None:
        """Forget workers, tasks and counts.

        Args:
            ready: only tasks that have ended; else all.
        """
        with self._mutex:
            self._clear(ready)

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget tasks.

        Args:
            ready: only those that have ended; else all.
        """
        with self._mutex:
            self._clear_tasks(ready)

    def _clear(self, ready: bool = True) -> None:
        self.workers.clear()
        self._clear_tasks(ready)
        self.event_count = 0
        self.task_count = 0

    def _clear_tasks(self, ready: bool = True) -> None:
        kept = {} if not ready else {key: task for key, task in self.itertasks() if not task.ready}
        self.tasks.clear()
        self.tasks.update(kept)
        self._taskheap.clear()

    # -- looking

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, KnownTask]]:
        """Yield ``(id, task)``, at most ``limit``."""
        return islice(iter(self.tasks.items()), limit or None)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, KnownTask]]:
        """Yield ``(id, task)`` in the order of the events' clocks, newest first.

        Args:
            limit: how many events to look at.
            reverse: newest first.
        """
        seen: set[str | None] = set()
        for entry in islice(reversed(self._taskheap) if reverse else iter(self._taskheap), limit):
            task = entry[3]()
            if task is not None and task.uuid not in seen:
                seen.add(task.uuid)
                yield task.uuid, task

    tasks_by_timestamp = tasks_by_time

    def _tasks_by_type(self, name: str, limit: int | None, reverse: bool) -> Iterator[tuple[str, KnownTask]]:
        found = ((key, task) for key, task in self.tasks_by_time(reverse=reverse) if task.name == name)
        return islice(found, limit)

    def _tasks_by_worker(self, hostname: str, limit: int | None, reverse: bool) -> Iterator[tuple[str, KnownTask]]:
        found = (
            (key, task)
            for key, task in self.tasks_by_time(reverse=reverse)
            if task.worker is not None and task.worker.hostname == hostname
        )
        return islice(found, limit)

    def task_types(self) -> list[str]:
        """Return the names of the tasks seen so far, sorted."""
        return sorted(self._seen_types)

    def alive_workers(self) -> Iterator[KnownWorker]:
        """Yield the workers that sent a heartbeat lately."""
        return (worker for worker in self.workers.values() if worker.alive)

    def rebuild_taskheap(self) -> None:
        """Put the tasks into the order of their clocks again."""
        self._taskheap[:] = sorted(
            timetuple(task.clock, task.timestamp or 0.0, task.origin or "", ref(task)) for task in self.tasks.values()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.event_callback, self.workers, self.tasks, None, self.max_workers_in_memory, self.max_tasks_in_memory,
            self.on_node_join, self.on_node_leave, _ids(self.tasks_by_type), _ids(self.tasks_by_worker),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"


def _known(entries: Any, key: str) -> Any:
    """Return an entry if there is one; an event about it is no use that keeps it from being forgotten."""
    return getattr(entries, "data", entries).get(key)


def _ids(index: Index) -> dict[str, list[str | None]]:
    return {name: [task.id for task in tasks] for name, tasks in index.items()}

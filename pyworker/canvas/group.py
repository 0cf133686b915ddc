"""Tasks that run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker.canvas.signature import Signature, maybe_signature, without_repeated_module
from pyworker.current import get_current_worker_task
from pyworker.identifiers import uuid
from pyworker.publish.calls import PLAIN_OPTIONS, Call, CallBatch, Series
from pyworker.result import AsyncResult, GroupResult

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.canvas.stamping import StampingVisitor
    from pyworker.task import Task


class _Plain(NamedTuple):
    """What calls of one task in a group have in common."""

    task: Task[Any, Any]
    #: Checks arguments by being called with them.
    check: Callable[..., Any] | None
    options: dict[str, Any]


def tasks_of(given: tuple[Any, ...], app: Celery | None = None) -> Sequence[Any]:
    """Return the signatures of ``f(a, b)``, ``f([a, b])`` and ``f(a for a in ...)``; of a tuple as a tuple."""
    items: Iterable[Any] = given
    if len(given) == 1:
        only = given[0]
        if isinstance(only, group):
            items = only.tasks
        elif isinstance(only, Mapping):
            items = [only]
        else:
            items = only
    # Most are signatures already.
    tasks = [item if app is None and type(item) is Signature else maybe_signature(item, app=app) for item in items]
    return tuple(tasks) if isinstance(items, tuple) else tasks


@Signature.register_type("group")
class group(Signature):
    """Tasks that run side by side; their results come as a list.

    Args:
        tasks: signatures, or one iterable of them.
        options: options of every task.
    """

    def __init__(self, *tasks: Any, app: Celery | None = None, **options: Any) -> None:
        super().__init__("celery.group", (), {"tasks": tasks_of(tasks, app)}, options, subtask_type="group", app=app)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Bring back a serialized group."""
        made = cls(data["kwargs"]["tasks"], app=app, **data["options"])
        made["immutable"] = bool(data.get("immutable"))
        return made

    @property
    def tasks(self) -> Sequence[Any]:
        """The tasks."""
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]

    @tasks.setter
    def tasks(self, value: Sequence[Any]) -> None:
        self["kwargs"]["tasks"] = value

    @property
    def app(self) -> Celery:
        """The app that the calls will be made in."""
        if self._app is None and self.tasks:
            return self.tasks[0].app  # type: ignore[no-any-return]
        return super().app

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send the tasks; arguments come before each one's own."""
        return self.apply_async(args, **options)

    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        *,
        add_to_parent: bool = True,
        **options: Any,
    ) -> Any:
        """Send the tasks in one batch; returns a :class:`GroupResult`.

        Raises:
            TypeError: a ``link`` is given; that is what chords are for.
        """
        if options.get("link") is not None or options.get("link_error") is not None:
            raise TypeError("Cannot add link to group: use a chord, or link the individual tasks")
        if self.tasks and self.app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        merged = {**self.options, **{key: value for key, value in options.items() if value is not None}}
        group_id = merged.pop("task_id", None) or uuid()
        for place in ("group_id", "group_index"):
            merged.pop(place, None)
        if not self.tasks:
            return GroupResult(group_id, [], app=self._app)
        if route_name:
            merged["route_name"] = route_name
        results = self._send(tuple(args or ()), kwargs, group_id, merged)
        result = GroupResult(group_id, results, app=self.app)
        if len(results) == 1 and isinstance(results[0], GroupResult):
            result = results[0]
        parent = get_current_worker_task() if add_to_parent else None
        if parent is not None:
            parent.add_trail(result)
        return result

    def apply(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the tasks here and now, one after the other; arguments as :meth:`apply_async`."""
        merged = {**self.options, **options}
        group_id = merged.pop("task_id", None) or uuid()
        merged["group_id"] = group_id
        results = [member.clone().apply(args, kwargs, **merged) for _, member in self._members()]
        return GroupResult(group_id, results, app=self.app if results else self._app)

    def _send(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, group_id: str, options: dict[str, Any]
    ) -> list[Any]:
        """Send each task: plain ones together, whatever is more by its own means."""
        app = self.app
        chord = options.pop("chord", None)
        root_id = options.get("root_id")
        members = list(self._members())
        batches = not args and not kwargs and not (options.keys() - PLAIN_OPTIONS)
        shared = {"group_id": group_id, **options, **({} if chord is None else {"chord": chord})}
        known: dict[int, _Plain | None] = {}
        ids = iter(app.new_ids(len(members)) if batches else ())
        steps: list[list[Call | Series] | tuple[Signature, Any]] = []
        batch = CallBatch()
        for position, (index, member) in enumerate(members):
            # Only what needs no more than its arguments goes into the batch.
            plain = self._plain(member, known, shared) if batches else None
            place = index if chord is None else position
            if plain is None:
                steps.append(batch.take())
                copy = member.clone()
                steps.append((copy, copy.freeze(group_id=group_id, root_id=root_id, group_index=place)))
                continue
            own, given, named = member["options"], member["args"], member["kwargs"]
            task_id = (own.get("task_id") if own else None) or next(ids)
            if plain.check is not None:
                plain.check(*given, **named)
            batch.add(plain.task.name, plain.task, task_id, given, named, plain.options, place)
        steps.append(batch.take())
        results = [result for step in steps for result in self._results(step)]
        if chord is not None:
            self._announce(group_id, results, sum(member.part_count() for _, member in members))
            options = {"root_id": None, **options}
        for step in steps:
            if isinstance(step, tuple):
                step[0].apply_async(args=args, kwargs=kwargs, chord=chord, add_to_parent=False, **options)
            elif step:
                app.publish_many(step)
        return results

    def _results(self, step: list[Call | Series] | tuple[Signature, Any]) -> Iterable[Any]:
        """The results of a part of what is sent."""
        if isinstance(step, tuple):
            return (step[1],)
        return AsyncResult.of_calls(step, self.app)

    def _announce(self, group_id: str, results: list[Any], size: int) -> None:
        """Tell the store of a chord's header before its first task can be done."""
        app = self.app
        app.backend.set_chord_size(group_id, size)
        if any(isinstance(result, GroupResult) for result in results):
            # The body gets lists in the list: their places are known to the results alone.
            app.backend.save_group(group_id, GroupResult(group_id, results, app=app))

    @staticmethod
    def _plain(member: Signature, known: dict[int, _Plain | None], shared: Mapping[str, Any]) -> _Plain | None:
        """What is needed to send a plain member; None if it is more than a task with arguments."""
        task = member._type
        own = member["options"]
        if task is None or type(member) is not Signature or (own and own.keys() - {"task_id", "reply_to"}):
            return None
        key = id(task)
        if key not in known:
            is_plain = task.publishes_plainly
            known[key] = _Plain(task, task.argument_check, {**task.lineage(), **shared}) if is_plain else None
        return known[key]

    def _members(self) -> Iterator[tuple[int, Signature]]:
        """The tasks with their places, those of nested groups, which have places of their own, included."""
        app = self._app
        for index, task in enumerate(self.tasks):
            member = task if app is None and type(task) is Signature else maybe_signature(task, app=app)
            if type(member) is Signature:
                yield index, member
            elif isinstance(member, group):
                yield from member._members()
            elif member.subtask_type != "chain" or member.kwargs["tasks"]:
                yield index, member

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give every task its id; returns the group's result."""
        options = self.options
        own_id = options.setdefault("task_id", _id or uuid())
        if group_id:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        options.setdefault("root_id", root_id)
        options.setdefault("parent_id", parent_id)
        self.tasks = [member.clone() for _, member in self._members()]
        results = [
            member.freeze(group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id,
                          group_index=index)
            for index, member in enumerate(self.tasks)
        ]  # fmt: skip
        return self.app.GroupResult(own_id, results)

    def clone(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Return a copy, its tasks copied too; arguments go to each of them."""
        copy = type(self)(
            [maybe_signature(task).clone(args, kwargs) for task in self.tasks],
            app=self._app,
            **self._merged((), None, options)[2],
        )
        copy["immutable"] = self.immutable
        return copy

    def set_immutable(self, immutable: bool) -> None:
        """Say for each task whether later arguments are ignored."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Link a callback to the first task, which cannot know the others' results."""
        return self.tasks[0].link(callback.clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Link an error callback to every task."""
        errback = maybe_signature(errback)
        return tuple(task.link_error(errback.clone()) for task in self.tasks)

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every task; arguments as :meth:`Signature.stamp`."""
        visited = None if visitor is None else visitor.on_group_start(self, **headers) or {}
        stamps = self._merged_stamps(visited, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_group_end(self, **stamps)
        return self

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Give the tasks countdowns of ``start``, ``start + step`` and so on, at most ``stop``."""
        for position, task in zip(count(), self.tasks, strict=False):
            value = float(start + position * step)
            task.set(countdown=value if stop is None else min(value, float(stop)))
        return self

    def part_count(self) -> int:
        """How many parts the tasks are in a chord's header."""
        return sum(member.part_count() for _, member in self._members())

    def drop_body(self) -> None:
        """Forget the chord that the tasks are parts of."""
        super().drop_body()
        for task in self.tasks:
            task.drop_body()

    def drop_header_bodies(self) -> None:
        """Leave the bodies out of the headers of chords among the tasks."""
        for task in self.tasks:
            task.drop_header_bodies()

    def __or__(self, other: Any) -> Any:
        if isinstance(other, group) and not other.tasks:
            return self
        if isinstance(other, Signature):
            return Signature.types["chord"](self, other.clone(), app=self._app)
        return NotImplemented

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        if not self.tasks:
            return "group(<empty>)"
        return without_repeated_module(self.tasks[0]["task"], f"group({self.tasks!r})")

"""Tasks that run one after the other, each with the result of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.canvas.chord import chord, first_of
from pyworker.canvas.group import group
from pyworker.canvas.signature import Signature, as_list, maybe_signature, without_repeated_module
from pyworker.current import allow_join_result

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.canvas.stamping import StampingVisitor

#: States of a task that ran here after which nothing follows.
_WITHOUT_VALUE = frozenset({states.IGNORED, states.REJECTED})
#: Options that a chain keeps for itself when it hands the others to its first task.
_OWN_OPTIONS = frozenset(
    {"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"}
)  # fmt: skip


def unrolled(task: Any) -> Any:
    """A group of one is its task."""
    if isinstance(task, group) and len(task.tasks) == 1:
        return maybe_signature(task.tasks[0], app=task._app)
    return task


def spread(whole: chord) -> list[Any]:
    """Return a chord whose body is a chain as a chord with that chain's first task, and the others.

    Every task of a header carries the body: with the rest of a chain in it messages would grow with their product.
    """
    body = whole.body
    if not isinstance(body, chain) or not body.tasks or isinstance(body.tasks[0], group):
        return [whole]
    first, *others = body.linked_tasks()
    given = {name: value for name, value in body.options.items() if name not in _OWN_OPTIONS}
    copy = whole.with_body(first.clone(**given))
    steps: list[Any] = [*spread(copy)]
    for other in others:
        steps.extend(spread(other) if isinstance(other, chord) else [other])
    return steps


@Signature.register_type("chain")
class chain(Signature):
    """Tasks that run one after the other.

    ``chain(a, b)`` is ``a | b``: what comes of it may be a chord (``group | task``) or the only task itself.

    Args:
        tasks: signatures, or one iterable of them.
        options: options of the chain.
    """

    def __new__(cls, *tasks: Any, app: Celery | None = None, **options: Any) -> Any:
        is_list = len(tasks) == 1 and not isinstance(tasks[0], Mapping)
        given = [maybe_signature(task, app=app) for task in (tasks[0] if is_list else tasks)]
        if app is None and not options and (is_list or len(tasks) > 1) and given:
            folded = reduce(_folded, given, cls.made_of([]))
            if not isinstance(folded, chain):
                return folded
            given = folded.tasks
        return cls.made_of(given, app, options)

    def __init__(self, *_tasks: Any, app: Celery | None = None, **_options: Any) -> None:
        """All is done by ``__new__``, because what it makes is not always a chain."""

    @classmethod
    def made_of(cls, tasks: list[Any], app: Celery | None = None, options: Mapping[str, Any] | None = None) -> chain:
        """Return a chain of exactly these tasks."""
        made = dict.__new__(cls)
        Signature.__init__(made, "celery.chain", (), {"tasks": tasks}, options, subtask_type="chain", app=app)
        return made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Bring back a serialized chain."""
        tasks = [maybe_signature(task, app=app) for task in data["kwargs"]["tasks"]]
        made = cls.made_of(tasks, app, data["options"])
        made["args"], made["immutable"] = tuple(data.get("args") or ()), bool(data.get("immutable"))
        return made

    @classmethod
    def joined(cls, left: Any, right: Any) -> Any:
        """Return ``left | right``."""
        return _joined(left, right)

    @property
    def tasks(self) -> list[Any]:
        """The tasks."""
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]

    @tasks.setter
    def tasks(self, value: list[Any]) -> None:
        self["kwargs"]["tasks"] = value

    @property
    def app(self) -> Celery:
        """The app that the calls will be made in."""
        if self._app is None and self.tasks:
            return self.tasks[0].app  # type: ignore[no-any-return]
        return super().app

    def clone(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Return a copy, its tasks copied too; arguments are the first task's."""
        own_args, _, merged = self._merged(args, None, options)
        copy = self.made_of([maybe_signature(task).clone() for task in self.tasks], self._app, dict(merged))
        copy["args"], copy["immutable"] = tuple(own_args), self.immutable
        if kwargs and copy.tasks:
            copy.tasks[0] = copy.tasks[0].clone((), kwargs)
        return copy

    def linked_tasks(self) -> list[Any]:
        """Return copies of the tasks that carry the chain's own links."""
        tasks = [maybe_signature(task).clone() for task in self.tasks]
        for callback in as_list(self.options.get("link")):
            tasks[-1].link(callback)
        for errback in as_list(self.options.get("link_error")):
            for task in tasks:
                task.link_error(errback)
        return tasks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the first task, with these arguments before and over its own."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the first task; the others travel with it. Returns the last one's result."""
        if self.app.conf.task_always_eager:
            with allow_join_result():
                return self.apply(args, kwargs, **options)
        merged = {**self.options, **options}
        take = merged.pop
        link, errbacks, rest = take("link", None), take("link_error", None), take("chain", None)
        steps, results = self._prepared(
            (*(() if self.immutable else args or ()), *self.args), kwargs, errbacks,
            last_id=take("task_id", None), root_id=merged.get("root_id"), group_id=take("group_id", None),
            chord_body=take("chord", None), group_index=take("group_index", None), copies=True,
        )  # fmt: skip
        if not steps:
            return None
        for callback in as_list(link):
            steps[0].link(callback)
        first = steps.pop()
        if route_name:
            merged["route_name"] = route_name
        following = [*(rest or ()), *steps]
        sent = first.apply_async(**merged, chain=following or None)
        return results[0] if steps else sent

    def apply(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the tasks here and now; arguments as :meth:`apply_async`. Returns the last one's result."""
        merged = {**self.options, **options}
        callbacks = as_list(merged.pop("link", None))
        steps = self._flat(copies=True, root_id=None)
        given: tuple[Any, Any] = ((*(args or ()), *self.args), kwargs)
        last = None
        while steps:
            step = steps.pop()
            for callback in callbacks if not steps else ():
                step.link(callback)
            result = step.apply(*given, **merged)
            result.parent, last = last, result
            if result.state in _WITHOUT_VALUE:
                break
            given = ((result.get(),), None) if steps else given
        return last

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give every task its id; returns the last one's result."""
        steps, results = self._prepared(
            self.args, None, None, last_id=_id, root_id=root_id, group_id=group_id, chord_body=chord,
            group_index=group_index, copies=False,
        )  # fmt: skip
        self.tasks = steps[::-1]
        self["args"] = ()
        if not results:
            raise ValueError("an empty chain has no result")
        self.options["task_id"] = results[0].id
        return results[0]

    def _prepared(
        self,
        args: Iterable[Any],
        kwargs: Mapping[str, Any] | None,
        errbacks: Any,
        *,
        last_id: str | None,
        root_id: str | None,
        group_id: str | None,
        chord_body: Any,
        group_index: int | None,
        copies: bool,
    ) -> tuple[list[Any], list[Any]]:
        """Return the frozen tasks and their results, the last first: so the worker can take the next off the end."""
        tasks = self._flat(copies, root_id)
        if not tasks:
            return [], []
        if args or kwargs:
            tasks[-1] = tasks[-1].clone(args, kwargs)
        results: list[Any] = []
        for position, task in enumerate(tasks):
            for errback in as_list(errbacks):
                task.link_error(errback)
            if position == 0:
                result = task.freeze(
                    last_id, root_id=root_id, group_id=group_id, chord=chord_body, group_index=group_index
                )
            else:
                result = task.freeze(root_id=root_id)
            if results:
                first_of(results[-1]).parent = result
            results.append(result)
        if copies:
            for task in tasks:
                task.drop_header_bodies()
        return tasks, results

    def _flat(self, copies: bool, root_id: str | None) -> list[Any]:
        """The tasks, the last first: nested chains spliced, groups made chords of with what follows them."""
        folded: list[Any] = []
        for step in reversed(self._spliced(copies)):
            if folded and isinstance(step, group):
                folded[-1] = chord(step, folded[-1], app=self._app, root_id=root_id)
            else:
                folded.append(step)
        return folded

    def _spliced(self, copies: bool) -> list[Any]:
        """The tasks in order, without nested chains, groups of one, and empty groups beside others."""
        steps: list[Any] = []
        emptied = None
        for task in self.tasks:
            step = maybe_signature(task, app=self._app)
            step = unrolled(step.clone() if copies else step)
            for part in step.linked_tasks() if isinstance(step, chain) else [step]:
                if isinstance(part, group) and not part.tasks:
                    emptied = part
                elif copies and isinstance(part, chord):
                    steps.extend(spread(part))
                else:
                    steps.append(part)
        return steps or ([emptied] if emptied is not None else [])

    def spread_bodies(self) -> None:
        """Let the chords among the tasks carry only the next task: the rest of their bodies joins the tasks."""
        self.tasks = self._spliced(copies=True)

    def link_error(self, errback: Any) -> Any:
        """Send another task when one of these fails."""
        return self.append_to_list_option("link_error", errback)

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every task; arguments as :meth:`Signature.stamp`."""
        visited = None if visitor is None else visitor.on_chain_start(self, **headers) or {}
        stamps = self._merged_stamps(visited, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chain_end(self, **stamps)
        return self

    def drop_body(self) -> None:
        """Forget the chord that the last task is a part of."""
        super().drop_body()
        if self.tasks:
            self.tasks[-1].drop_body()

    def drop_header_bodies(self) -> None:
        """Leave the bodies out of the headers of chords among the tasks."""
        for task in self.tasks:
            task.drop_header_bodies()

    def part_count(self) -> int:
        """In a chord's header only the last task that counts for something does."""
        counts = (maybe_signature(task).part_count() for task in reversed(self.tasks))
        return next((count for count in counts if count), 0)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        if not self.tasks:
            return f"<{type(self).__name__}@{id(self):#x}: empty>"
        return without_repeated_module(self.tasks[0]["task"], " | ".join(repr(task) for task in self.tasks))


def _folded(left: Any, right: Any) -> Any:
    joined = _joined(left, right)
    if joined is NotImplemented:
        raise TypeError(f"a chain is made of signatures, not of {right!r}")
    return joined


def _joined(left: Any, right: Any) -> Any:
    """``left | right`` by Celery's rules; the operands stay as they are."""
    if not isinstance(right, Signature):
        return NotImplemented
    app = left._app
    if isinstance(left, group):
        return left | right
    if isinstance(right, group):
        if not right.tasks and isinstance(left, chain):
            return left
        right = unrolled(right)
    if isinstance(right, chain):
        if isinstance(left, chain):
            return reduce(_joined, right.linked_tasks(), left)
        return chain.made_of([left.clone(), *right.linked_tasks()], app)
    if isinstance(left, chord) and not isinstance(right, group):
        return left.with_body(left.body | right)
    if not isinstance(left, chain):
        return chain.made_of([left.clone(), right.clone()], app)
    if not left.tasks:
        return right if isinstance(right, group) else chain.made_of([right], app)
    return _appended(left, right, app)


def _appended(left: chain, right: Any, app: Celery | None) -> Any:
    tasks = left.linked_tasks()
    right = right.clone()
    last = tasks[-1]
    kept = {name: value for name, value in left.options.items() if name not in ("link", "link_error")}
    if isinstance(last, group) and not isinstance(right, group):
        tasks[-1] = chord(last, right, app=app)
        if len(tasks) > 1 and isinstance(tasks[-2], chord):
            tasks[-2:] = [tasks[-2].with_body(tasks[-2].body | tasks[-1])]
    elif isinstance(last, chord) and not isinstance(right, chord):
        tasks[-1] = last.with_body(last.body | right)
    else:
        tasks.append(right)
        # Options of a chain are those of its first task: of a longer chain they are nobody's.
        kept = {}
    joined = chain.made_of(tasks, app, kept)
    joined["args"], joined["immutable"] = left.args, left.immutable
    return joined

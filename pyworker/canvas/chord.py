"""A group with a task that gets all its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyworker.canvas.group import group, tasks_of
from pyworker.canvas.signature import Signature, as_list, maybe_signature, without_repeated_module
from pyworker.current import allow_join_result
from pyworker.identifiers import uuid

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.canvas.stamping import StampingVisitor

#: Options of the body alone: the header's tasks must not send what follows it.
_NOT_FOR_HEADER = frozenset({"chain", "chord", "group_id", "group_index"})


@Signature.register_type("chord")
class chord(Signature):
    """A group, the header, with a task, the body, that is sent with the list of its results.

    Args:
        header: signatures, or a group.
        body: a signature; may be given when the chord is called.
        options: options of the chord.
    """

    def __init__(self, header: Any, body: Any = None, app: Celery | None = None, **options: Any) -> None:
        parts = {"header": _header(header, app), "body": maybe_signature(body, app=app), "kwargs": {}}
        super().__init__("celery.chord", (), parts, options, subtask_type="chord", app=app)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Bring back a serialized chord."""
        parts = data["kwargs"]
        made = cls(parts.get("header") or [], parts.get("body"), app=app, **data["options"])
        made["args"] = tuple(data.get("args") or ())
        made["immutable"] = bool(data.get("immutable"))
        made["kwargs"]["kwargs"] = dict(parts.get("kwargs") or {})
        return made

    @property
    def tasks(self) -> Any:
        """The header: a list of tasks, a group once frozen."""
        return self["kwargs"]["header"]

    @property
    def body(self) -> Any:
        """The body."""
        return self["kwargs"]["body"]

    @property
    def app(self) -> Celery:
        """The app that the calls will be made in."""
        if self._app is None:
            for task in (*_tasks(self.tasks), self.body):
                if task is not None:
                    return maybe_signature(task).app  # type: ignore[no-any-return]
        return super().app

    def with_body(self, body: Any) -> chord:
        """Return a copy with another body."""
        copy: chord = self.clone()
        copy["kwargs"]["body"] = body
        return copy

    def clone(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Return a copy, header and body copied too; arguments are the header's."""
        own_args, _, merged = self._merged(args, None, options)
        copy = type(self)(
            [maybe_signature(task).clone() for task in _tasks(self.tasks)],
            maybe_signature(self.body, clone=True), app=self._app, **merged,
        )  # fmt: skip
        copy["args"], copy["immutable"] = tuple(own_args), self.immutable
        copy["kwargs"]["kwargs"] = {**self["kwargs"]["kwargs"], **(kwargs or {})}
        return copy

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send the header."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the header; the body travels with it. Returns the body's result."""
        given = dict(kwargs or {})
        body = maybe_signature(given.pop("body", None) or self.body, clone=True)
        header_kwargs = {**self["kwargs"]["kwargs"], **given}
        args = self.args if self.immutable else (*(args or ()), *self.args)
        if self.app.conf.task_always_eager:
            with allow_join_result():
                self._link_body(body, {**self.options, **options})
                return self._apply(body, args, header_kwargs)
        body_id = options.pop("task_id", None)
        # The root of this call, not one that the chord was given for its own tasks.
        root_id = options.get("root_id") or body.options.get("root_id")
        merged = {**self.options, **options}
        take = merged.pop
        group_id = take("task_id", None) or uuid()
        self._link_body(body, merged)
        delay: dict[str, Any] = {key: take(key) for key in ("countdown", "eta") if merged.get(key) is not None}
        body.options.update({key: value for key, value in merged.items() if key != "parent_id"})
        header_options = {key: value for key, value in merged.items() if key not in _NOT_FOR_HEADER}
        if body.subtask_type == "chain":
            body.spread_bodies()
        result = body.freeze(body_id, group_id=group_id, root_id=root_id)
        body.drop_header_bodies()
        result.parent = self._send(body, group_id, tuple(args), header_kwargs, {**header_options, **delay})
        return result

    def apply(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run header and body here and now.

        Args:
            args, kwargs: arguments of the header's tasks.
            propagate: raise what a task of the header raises, instead of giving it to the body.
            body: another body.
            options: without effect.
        """
        chosen = maybe_signature(self.body if body is None else body, clone=True)
        return self._apply(chosen, (*(args or ()), *self.args), dict(kwargs or {}), propagate)

    def _apply(self, body: Any, args: Iterable[Any], kwargs: Mapping[str, Any], propagate: bool = True) -> Any:
        header = group([maybe_signature(task).clone() for task in _tasks(self.tasks)], app=self.app)
        return body.apply((header.apply(args, kwargs).get(propagate=propagate),))

    @staticmethod
    def _link_body(body: Any, options: dict[str, Any]) -> None:
        """Move the callbacks among the options to the body."""
        for callback in as_list(options.pop("link", None)):
            body.link(callback)
        for errback in as_list(options.pop("link_error", None)):
            body.link_error(errback)

    def _send(
        self,
        body: Any,
        group_id: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Any:
        """Send the header, the body with each of its tasks; of an empty one the body itself."""
        header = group([maybe_signature(task).clone() for task in _tasks(self.tasks)], app=self.app)
        if header.tasks:
            return header.apply_async(args, kwargs or None, task_id=group_id, chord=body, **options)
        body.delay([])
        return self.app.GroupResult(group_id, [])

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give header and body their ids; returns the body's result."""
        header = self.header_group()
        header_result = header.freeze(parent_id=parent_id, root_id=root_id, chord=self.body)
        self.options["task_id"] = header.id
        if self.body is None:
            return None
        result = self.body.freeze(_id, root_id=root_id, chord=chord, group_id=group_id, group_index=group_index)
        first_of(result).parent = header_result
        return result

    def link(self, callback: Any) -> Any:
        """Send another task with the body's result."""
        return self.body.link(callback)

    def link_error(self, errback: Any) -> Any:
        """Send another task when the body, or the header, fails."""
        errback = maybe_signature(errback)
        if self.app.conf.task_allow_error_cb_on_chord_header:
            for task in _tasks(self.tasks):
                task.link_error(errback.clone(immutable=True))
        for task in _tasks(self.tasks):
            if isinstance(task, chord):
                task.link_error(errback)
        return self.body.link_error(errback)

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the header's tasks, and the body as a visitor says; arguments as :meth:`Signature.stamp`."""
        visited = None if visitor is None else visitor.on_chord_header_start(self, **headers) or {}
        stamps = self._merged_stamps(visited, append_stamps, headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in _tasks(self.tasks):
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chord_header_end(self, **stamps)
            if self.body is not None:
                of_body = self._merged_stamps(visitor.on_chord_body(self, **stamps) or {}, append_stamps, stamps)
                self.body.stamp(visitor, append_stamps, **of_body)
        return self

    def header_group(self) -> group:
        """Return the header, made a group if it is none yet."""
        if not isinstance(self.tasks, group):
            self["kwargs"]["header"] = group(self.tasks, app=self._app)
        whole: group = self.tasks
        return whole

    def set_immutable(self, immutable: bool) -> None:
        """Say for the header's tasks whether later arguments are ignored."""
        for task in _tasks(self.tasks):
            task.set_immutable(immutable)

    def drop_body(self) -> None:
        """Forget the chord that the body is a part of."""
        super().drop_body()
        if self.body is not None:
            self.body.drop_body()

    def drop_header_bodies(self) -> None:
        """Leave the body out of the header's tasks, which get it when they are sent."""
        for task in (self.tasks,) if isinstance(self.tasks, group) else self.tasks:
            task.drop_body()
            task.drop_header_bodies()
        if self.body is not None:
            self.body.drop_header_bodies()

    def part_count(self) -> int:
        """In another chord's header only the body counts."""
        return self.body.part_count()  # type: ignore[no-any-return]

    def __length_hint__(self) -> int:
        """How many results the body gets."""
        return sum(maybe_signature(task).part_count() for task in _tasks(self.tasks))

    def __repr__(self) -> str:
        body = self.body
        if body is None:
            return f"<chord without body: {self.tasks!r}>"
        if body.subtask_type == "chain" and body.tasks:
            first, *others = body.tasks
            rest = Signature.types["chain"](others, app=self._app)
            return without_repeated_module(first["task"], f"%({first.reprcall(self.tasks)} | {rest!r})")
        return f"%{without_repeated_module(body['task'], body.reprcall(self.tasks))}"


def _header(header: Any, app: Celery | None) -> Any:
    if isinstance(header, Mapping):
        header = maybe_signature(header, app=app)
    if isinstance(header, Signature):
        return header.tasks if header.subtask_type in ("group", "chain") else [header]  # type: ignore[attr-defined]
    return list(tasks_of((header,), app))


def _tasks(header: Any) -> list[Any]:
    return list(header.tasks) if isinstance(header, group) else list(header)


def first_of(result: Any) -> Any:
    """The result at the beginning of a line of parents."""
    while result.parent is not None:
        result = result.parent
    return result

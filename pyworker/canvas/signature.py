"""One call of a task, to be made later or elsewhere: a dictionary that serializes as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pyworker.canvas.stamping import merged_stamps
from pyworker.current import app_or_default
from pyworker.identifiers import reply_address, uuid

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.canvas.stamping import StampingVisitor
    from pyworker.task import Task

Kind = TypeVar("Kind", bound="Signature")

#: Options that a call cannot replace once the signature has them.
_FIXED_OPTIONS = frozenset({"group_id", "stamped_headers"})


def as_list(value: Any) -> list[Any]:
    """Return an option that may be one or several as a list; None is none."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def without_repeated_module(task_name: Any, text: str) -> str:
    """Return a text with the task's module only where it stands first."""
    module = f"{str(task_name).rpartition('.')[0]}."
    head, found, tail = text.partition(module)
    return head + found + tail.replace(module, "") if found else text


class Signature(dict[str, Any]):
    """A task's name, arguments and options.

    Args:
        task: a task, its name, or a signature as a plain mapping.
        args: positional arguments; a call's own come before them.
        kwargs: keyword arguments; a call's own replace them.
        options: options of ``apply_async``.
        immutable: later arguments are ignored.
    """

    #: Kinds of signatures by the name that their serialized form carries.
    types: ClassVar[dict[str, type[Signature]]] = {}

    def __init__(
        self,
        task: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Task[Any, Any] | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Celery | None = None,
        **more_options: Any,
    ) -> None:
        self._app = app
        self._type = type
        if isinstance(task, Mapping):
            super().__init__(task)
            return
        if hasattr(task, "apply_async") and not isinstance(task, str):
            self._type = task
            task = task.name
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more_options},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @staticmethod
    def of_task(task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], immutable: bool) -> Signature:
        """Return a task's signature: as the constructor makes it, with nothing to find out. Groups have many."""
        made = Signature.__new__(Signature)
        made._app = None
        made._type = task
        dict.__init__(
            made, task=task.name, args=args, kwargs=kwargs, options={}, subtask_type=None, immutable=immutable
        )
        return made

    @classmethod
    def register_type(cls, name: str) -> Callable[[type[Kind]], type[Kind]]:
        """Class decorator: make a kind of signature known."""

        def register(kind: type[Kind]) -> type[Kind]:
            cls.types[name] = kind
            return kind

        return register

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Return a signature of the right kind from its serialized form."""
        kind = Signature.types.get(data.get("subtask_type") or "")
        if kind is not None and kind is not cls:
            return kind.from_dict(data, app=app)
        return Signature(data, app=app)

    # -- parts

    @property
    def task(self) -> str:
        """The task's name."""
        return self["task"]  # type: ignore[no-any-return]

    name = task

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return self["args"]  # type: ignore[no-any-return]

    @args.setter
    def args(self, value: Iterable[Any]) -> None:
        self["args"] = value

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self["kwargs"]  # type: ignore[no-any-return]

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``apply_async``."""
        return self["options"]  # type: ignore[no-any-return]

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> str | None:
        """Which kind of signature this is."""
        return self.get("subtask_type")

    @property
    def immutable(self) -> bool:
        """Whether later arguments are ignored."""
        return bool(self.get("immutable"))

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def id(self) -> str | None:
        """The task id, once frozen."""
        return self.options.get("task_id")

    @property
    def parent_id(self) -> str | None:
        """The id of the task that the call is a child of, if that is decided."""
        return self.options.get("parent_id")

    @property
    def root_id(self) -> str | None:
        """The id of the workflow's first task, if that is decided."""
        return self.options.get("root_id")

    @property
    def AsyncResult(self) -> Callable[..., Any]:
        """What makes a result of the task from its id."""
        task = self._type if self._type is not None else self.app.tasks.get(self.task)
        return self.app.AsyncResult if task is None else task.AsyncResult

    @property
    def app(self) -> Celery:
        """The app that the call will be made in."""
        if self._app is not None:
            return self._app
        return self._type.app if self._type is not None else app_or_default()

    @property
    def type(self) -> Task[Any, Any]:
        """The task.

        Raises:
            NotRegistered: nothing of that name is known here.
        """
        return self._type if self._type is not None else self.app.tasks[self.task]

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task here and now."""
        args, kwargs, _ = self._merged(args, kwargs, None)
        return self.type(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task, with these arguments before and over its own."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task; arguments come before and over its own, options over its own."""
        given = {name: value for name, value in options.items() if value is not None}
        merged_args, merged_kwargs, merged = self._merged(args, kwargs, given)
        if route_name:
            merged = {**merged, "route_name": route_name}
        task = self._type if self._type is not None else self.app.tasks.get(self.task)
        if task is None:
            return self.app.send_task(self.task, merged_args, merged_kwargs, **merged)
        return task.apply_async(merged_args, merged_kwargs, **merged)

    def apply(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the task here and now as a worker would; arguments as :meth:`apply_async`, result as ``Task.apply``."""
        merged_args, merged_kwargs, merged = self._merged(args, kwargs, options)
        task: Any = self.type
        return task.apply(merged_args, merged_kwargs, **merged)

    def __invert__(self) -> Any:
        """Send the task and wait for its result."""
        return self.apply_async().get()

    def _merged(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any] | None,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        own = self.options
        merged = own
        if options:
            fixed = _FIXED_OPTIONS.union(own.get("stamped_headers") or ())
            merged = {**own, **{key: value for key, value in options.items() if key not in fixed or key not in own}}
        if self.immutable and not force:
            return self.args, self.kwargs, merged
        return (
            (*args, *self.args) if args else self.args,
            {**self.kwargs, **kwargs} if kwargs else self.kwargs,
            merged,
        )

    # -- copies

    def clone(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Return a copy with more arguments and options."""
        merged_args, merged_kwargs, merged = self._merged(args, kwargs, options)
        copy = self.from_dict(
            {
                "task": self.task,
                "args": tuple(merged_args),
                "kwargs": dict(merged_kwargs),
                "options": deepcopy(merged) if merged else {},
                "subtask_type": self.subtask_type,
                "immutable": self.immutable,
            },
            app=self._app,
        )
        copy._type = self._type
        return copy

    partial = clone

    def __deepcopy__(self, memo: MutableMapping[int, Any]) -> Any:
        memo[id(self)] = copy = self.clone()
        return copy

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Any:
        """Return a copy with whole parts replaced."""
        copy = self.clone()
        for part, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[part] = value
        return copy

    # -- options

    def set(self: Kind, immutable: bool | None = None, **options: Any) -> Kind:
        """Set options; returns this signature."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether later arguments are ignored."""
        self.immutable = immutable

    def link(self, callback: Any) -> Any:
        """Send another task with the result when this one succeeds; returns the callback."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Send another task when this one fails; returns the callback."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self: Kind, errback: Any) -> Kind:
        """Do as :meth:`link_error`; returns this signature."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add to an option that may have several values, unless it is there; returns the value."""
        listed = self.options[key] = as_list(self.options.get(key))
        if value not in listed:
            listed.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one or several values to an option that may have several."""
        self.options[key] = [*as_list(self.options.get(key)), *as_list(value)]

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp this signature and what is linked to it: put headers on the messages, listed in ``stamped_headers``.

        Args:
            visitor: decides about the stamps of each part.
            append_stamps: keep a stamp's several values in a list; without, the one given here wins.
            headers: the stamps.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        visited = None if visitor is None else visitor.on_signature(self, **headers) or {}
        return self.set(**self._merged_stamps(visited, append_stamps, headers))

    def stamp_links(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp the callbacks and error callbacks."""
        for option in ("link", "link_error"):
            stamps = headers
            for linked in as_list(self.options.get(option)):
                target = maybe_signature(linked, app=self._app)
                visited = None
                if visitor is not None:
                    on_link = visitor.on_callback if option == "link" else visitor.on_errback
                    visited = on_link(target, **stamps) or {}
                # Stamps of this signature's own stay its own.
                stamps = merged_stamps(stamps, visited, None, appends=append_stamps)
                target.stamp(visitor, append_stamps, **stamps)

    def _merged_stamps(self, visited: Any, append_stamps: bool, headers: Mapping[str, Any]) -> dict[str, Any]:
        return merged_stamps(headers, visited, self.options, appends=append_stamps)

    def flatten_links(self) -> list[Any]:
        """Return this signature and everything linked to it."""
        flat: list[Any] = [self]
        for linked in as_list(self.options.get("link")):
            flat.extend(maybe_signature(linked, app=self._app).flatten_links())
        return flat

    # -- being part of something

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give the call its id; returns the result that it will have."""
        options = self.options
        task_id = options.get("task_id")
        if task_id is None:
            task_id = options["task_id"] = _id or uuid()
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        options.setdefault("reply_to", reply_address())
        if group_id:
            options.setdefault("group_id", group_id)
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return self.AsyncResult(task_id)

    @classmethod
    def joined(cls, left: Any, right: Any) -> Any:
        """Return ``left | right``; chains do it."""
        return NotImplemented

    def part_count(self) -> int:
        """How many parts this is in a chord's header."""
        return 1

    def drop_body(self) -> None:
        """Forget the chord that this is a part of."""
        self.options.pop("chord", None)

    def drop_header_bodies(self) -> None:
        """Leave the bodies out of the headers of chords in this: they carry them anyway, once."""

    def __or__(self, other: Any) -> Any:
        return Signature.types["chain"].joined(self, other)

    __ior__ = __or__

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return the call as it would be written."""
        shown_args, shown_kwargs, _ = self._merged(args, kwargs, None, force=True)
        parts = [*map(repr, shown_args), *(f"{name}={value!r}" for name, value in shown_kwargs.items())]
        return f"{self.task}({', '.join(parts)})"

    def __repr__(self) -> str:
        return self.reprcall()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_plain, (dict(self),)


def _from_plain(data: dict[str, Any]) -> Signature:
    return Signature.from_dict(data)


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a new signature: of a task or a name; a copy of a signature; a serialized one brought back."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(varies: Any, app: Celery | None = None, clone: bool = False) -> Any:
    """Return a signature as it is, a serialized one brought back, None as None."""
    if isinstance(varies, Signature):
        varies = varies.clone() if clone else varies
    elif isinstance(varies, Mapping):
        varies = Signature.from_dict(varies)
    if app is not None and isinstance(varies, Signature):
        varies._app = app
    return varies

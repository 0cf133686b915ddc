"""One task applied to many arguments: in one message, or in several of a given size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pyworker.canvas.group import group
from pyworker.canvas.signature import Signature, maybe_signature
from pyworker.saferepr import truncate

if TYPE_CHECKING:
    from pyworker.app import Celery

_SHOWN_CHARACTERS = 100


class _Mapping(Signature):
    """A task and what it is applied to, run by a task of the worker's own."""

    _runner = ""
    _kind = ""
    _shown = ""

    def __init__(self, task: Any, it: Iterable[Any], app: Celery | None = None, **options: Any) -> None:
        parts = {"task": maybe_signature(task, app=app), "it": list(it)}
        super().__init__(self._runner, (), parts, options, subtask_type=self._kind, immutable=True, app=app)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Bring back a serialized one."""
        return cls(data["kwargs"]["task"], data["kwargs"]["it"], app=app, **data["options"])

    @property
    def app(self) -> Celery:
        """The app that the call will be made in."""
        if self._app is None:
            return maybe_signature(self.kwargs["task"]).app  # type: ignore[no-any-return]
        return super().app

    def __repr__(self) -> str:
        items = truncate(repr(self.kwargs["it"]), _SHOWN_CHARACTERS)
        return f"[{self.kwargs['task']['task']}({self._shown}) for x in {items}]"


@Signature.register_type("xmap")
class xmap(_Mapping):
    """``[task(x) for x in it]`` in one message."""

    _runner, _kind, _shown = "celery.map", "xmap", "x"


@Signature.register_type("xstarmap")
class xstarmap(_Mapping):
    """``[task(*x) for x in it]`` in one message."""

    _runner, _kind, _shown = "celery.starmap", "xstarmap", "*x"


@Signature.register_type("chunks")
class chunks(Signature):
    """A starmap in parts of ``n``, side by side."""

    def __init__(self, task: Any, it: Iterable[Any], n: int, app: Celery | None = None, **options: Any) -> None:
        parts = {"task": maybe_signature(task, app=app), "it": list(it), "n": n}
        super().__init__("celery.chunks", (), parts, options, subtask_type="chunks", immutable=True, app=app)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Celery | None = None) -> Signature:
        """Bring back a serialized one."""
        parts = data["kwargs"]
        return cls(parts["task"], parts["it"], parts["n"], app=app, **data["options"])

    def group(self) -> group:
        """Return the parts as a group."""
        task, items, size = self.kwargs["task"], iter(self.kwargs["it"]), self.kwargs["n"]
        parts = iter(lambda: list(islice(items, size)), [])
        return group([xstarmap(task, part, app=self._app) for part in parts], app=self._app)

    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the parts; they go where the task itself would go."""
        return self.group().apply_async((), None, route_name or self.kwargs["task"]["task"], **options)

    def apply(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the parts here and now."""
        return self.group().apply((), None, **options)

    def __call__(self, **options: Any) -> Any:
        """Send the parts."""
        return self.apply_async(**options)

"""The client side for every app with Celery's API and messages: stock Celery's own, and ours."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pyworker.bench.errors import BenchError
from pyworker.bench.peers.stores import Store, open_store
from pyworker.bench.peers.work import make_work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyworker.bench.settings import AppSettings

TASK_NAME = "bench.task"
_ROUND_TRIP_DEADLINE_S = 30.0
_CHUNK = 500
_KEPT_PROBLEMS = 20
_PAST = datetime(2001, 1, 1, tzinfo=timezone.utc)
#: Stands in a cloned message for the task's index; no message has it by chance.
_INDEX_MARK = 987654321012345678


def make_app(app_class: Callable[..., Any], signals: Any, settings: AppSettings) -> Any:
    """Build the application under test.

    Args:
        app_class: ``celery.Celery`` or a class with the same API.
        signals: the library's module of signals; used by the ``receivers`` lane only.
        settings: where the broker is and what the task does.
    """
    app = app_class("pyworker_bench", broker=settings.broker_url, backend=settings.backend_url)
    app.conf.update(
        task_default_queue=settings.queue,
        task_ignore_result=settings.ignore_result,
        broker_connection_retry_on_startup=True,
        broker_transport_options=settings.transport_options,
        worker_send_task_events=settings.task_events,
    )
    work = make_work(settings)
    # Not shared: a run has several apps in one process, and each has a task of its own under this name.
    options: dict[str, Any] = {"name": TASK_NAME, "shared": False}
    if settings.lane == "library":
        options["base"] = _task_class_with_call(app.Task)
    elif settings.lane == "receivers":
        _connect_receivers(signals)

    @app.task(**options)  # type: ignore[untyped-decorator]
    def task(index: int, payload: str = "") -> int:
        return work(index, payload)

    return app


def _task_class_with_call(task_class: Any) -> Any:
    class TaskWithCall(task_class):  # type: ignore[misc]
        """What many applications write to wrap each run; it needs the library's own tracer."""

        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    return TaskWithCall


def _connect_receivers(signals: Any) -> None:
    """Connect receivers of the weight of Django's connection clean-up around each task."""
    open_connections: dict[str, float] = {}

    def before(task_id: str | None = None, **_rest: Any) -> None:
        if open_connections:
            open_connections.clear()

    def after(task_id: str | None = None, **_rest: Any) -> None:
        if open_connections:
            open_connections.clear()

    signals.task_prerun.connect(before, weak=False)
    signals.task_postrun.connect(after, weak=False)


class CeleryClient:
    """Sends by the app's own client; reads and checks results in the store itself."""

    def __init__(
        self,
        app: Any,
        group: Callable[..., Any],
        settings: AppSettings,
        payload: str,
        preload_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._app = app
        self._preload_options = dict(preload_options or {})
        self._task = app.tasks[TASK_NAME]
        self._group = group
        self._settings = settings
        self._payload = payload
        self._store: Store = open_store(settings, app)
        self._ids: dict[int, str] = {}
        self._template: _Template | None = None

    def _arguments(self, index: int) -> tuple[Any, ...]:
        return (index, self._payload) if self._payload else (index,)

    def send(self, index: int) -> None:
        """Send one task by ``delay``."""
        self._ids[index] = self._task.delay(*self._arguments(index)).id

    def send_many(self, indexes: Sequence[int]) -> None:
        """Send a group."""
        result = self._group(self._task.s(*self._arguments(index)) for index in indexes).apply_async()
        self._ids.update(zip(indexes, (child.id for child in result.children), strict=True))

    def preload(self, indexes: Sequence[int]) -> None:
        """Push copies of one message of the real client, each with its own id and arguments."""
        if self._template is None:
            self._template = self._make_template()
        template = self._template
        for start in range(0, len(indexes), _CHUNK):
            chunk = indexes[start : start + _CHUNK]
            self._store.push(self._settings.queue, [template.render(index) for index in chunk])
            for index in chunk:
                self._ids[index] = template.task_id(index)

    def expect(self, identifiers: Mapping[int, str]) -> None:
        """Take over tasks that other processes send under known ids."""
        self._ids.update(identifiers)

    def round_trip(self, index: int) -> None:
        """Send one task by ``delay`` and ``get`` its result."""
        result = self._task.delay(*self._arguments(index))
        self._ids[index] = result.id
        value = result.get(timeout=_ROUND_TRIP_DEADLINE_S)
        if value != index:
            raise BenchError(f"task {index} returned {value!r}")

    def stored(self, first: int, stop: int) -> int | None:
        """Count the result keys of these tasks."""
        if self._settings.ignore_result:
            return None
        return self._store.stored([self._key(index) for index in range(first, stop)])

    def check(self, first: int, stop: int) -> list[str]:
        """Check state, value and id of every stored result."""
        if self._settings.ignore_result:
            return []
        problems: list[str] = []
        for start in range(first, stop, _CHUNK):
            indexes = range(start, min(start + _CHUNK, stop))
            for index, raw in zip(indexes, self._store.results([self._key(i) for i in indexes]), strict=True):
                problem = self._problem_of(index, raw)
                if problem:
                    problems.append(problem)
        return problems[:_KEPT_PROBLEMS] + ([f"... {len(problems)} in all"] if len(problems) > _KEPT_PROBLEMS else [])

    def leftovers(self) -> int:
        """Count queued and unacknowledged messages."""
        return self._store.leftovers(self._settings.queue)

    def close(self) -> None:
        """Delete what is left in the servers, then close the app and the checking connections."""
        self._store.forget(
            self._settings.queue, [f"celery-task-meta-{identifier}" for identifier in self._ids.values()]
        )
        self._app.close()
        self._store.close()

    def _key(self, index: int) -> str:
        return f"celery-task-meta-{self._ids[index]}"

    def _problem_of(self, index: int, raw: bytes | str | None) -> str | None:
        if raw is None:
            return f"task {index}: no result is stored"
        meta = json.loads(raw)
        if meta["status"] != "SUCCESS" or meta["result"] != index or meta["task_id"] != self._ids[index]:
            return f"task {index}: stored {meta}"
        return None

    def _make_template(self) -> _Template:
        queue = f"{self._settings.queue}.template"
        eta = self._preload_options.get("eta")
        # One that is due, because the others are not to be had back from a file.
        options = {**self._preload_options, **({"eta": _PAST} if eta else {})}
        identifier = self._task.apply_async(self._arguments(_INDEX_MARK), queue=queue, **options).id
        raw = self._store.pop(queue)
        if raw is None:
            raise BenchError("the client did not put its message where it was expected")
        if eta:
            raw = raw.replace(_PAST.isoformat().encode(), eta.isoformat().encode())
        return _Template(raw, identifier)


class _Template:
    """A message of the real client, from which equal ones with other ids and arguments are made."""

    def __init__(self, raw: bytes, identifier: str) -> None:
        self._prefix = identifier[:-12]
        self._body = base64.b64decode(json.loads(raw)["body"])
        encoded = base64.b64encode(self._body)
        # Split where the message differs from task to task: the id, the index in argsrepr, the body.
        self._pieces = raw.replace(encoded, b"\0body\0").replace(str(_INDEX_MARK).encode(), b"\0index\0").replace(
            identifier.encode(), b"\0id\0"
        ).split(b"\0")  # fmt: skip

    def task_id(self, index: int) -> str:
        return f"{self._prefix}{index:012x}"

    def render(self, index: int) -> bytes:
        number = str(index).encode()
        values = {
            b"body": base64.b64encode(self._body.replace(str(_INDEX_MARK).encode(), number)),
            b"index": number,
            b"id": self.task_id(index).encode(),
        }
        return b"".join(values.get(piece, piece) for piece in self._pieces)

"""What comes after a task: its callbacks, the rest of its chain, its chord, its error callbacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.canvas import group, maybe_signature
from pyworker.exceptions import ChordError, NotRegistered
from pyworker.request import Context

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.task import Task

logger = logging.getLogger("celery.backends.base")


def send_followers(app: Celery, task_id: str, request: Mapping[str, Any], returned: Any) -> None:
    """Publish callbacks and the next task of the chain, with a task's return value."""
    inherits = app.conf.task_inherit_parent_priority
    priority = (request.get("delivery_info") or {}).get("priority") if inherits else None
    options: dict[str, Any] = {"parent_id": task_id, "root_id": request.get("root_id") or task_id, "priority": priority}
    callbacks, chain = request.get("callbacks"), request.get("chain")
    if callbacks:
        signatures = [maybe_signature(callback, app=app) for callback in callbacks]
        plain = [one for one in signatures if not isinstance(one, group)]
        for one in signatures:
            if isinstance(one, group):
                one.apply_async((returned,), **options)
        if len(plain) > 1:
            group(plain, app=app).apply_async((returned,), **options)
        elif plain:
            plain[0].apply_async((returned,), **options)
    if chain:
        following = maybe_signature(chain[-1], app=app)
        following.apply_async((returned,), chain=list(chain[:-1]), **options)


def record_failure(
    app: Celery,
    task_id: str,
    error: BaseException,
    traceback: str | None,
    request: Context | None,
    *,
    stores: bool,
    state: str = states.FAILURE,
    calls_errbacks: bool = True,
) -> None:
    """Store a failure and tell everybody who waits for the task."""
    backend: Any = app.backend
    if stores:
        backend.store_result(task_id, error, state, traceback=traceback, request=request)
    if request is None:
        return
    if request.chord:
        backend.on_chord_part_return(request, state, error)
    if state != states.REVOKED:
        _fail_chain(app, request.chain, error, traceback, stores, state)
    if calls_errbacks and request.errbacks:
        call_errbacks(app, request, error, traceback)


def _fail_chain(app: Celery, chain: Any, error: BaseException, traceback: str | None, stores: bool, state: str) -> None:
    """Mark the rest of a chain, which will never run, as failed too."""
    backend: Any = app.backend
    for element in chain or ():
        options = element["options"] if isinstance(element, Mapping) else {}
        task_id = options.get("task_id")
        if task_id is None:
            continue
        context = Context(element)
        context.update(options, id=task_id, group=options.get("group_id"))
        if stores:
            backend.store_result(task_id, error, state, traceback=traceback, request=context)
        if options.get("chord"):
            backend.on_chord_part_return(context, state, error)


def call_errbacks(app: Celery, request: Context, error: BaseException, traceback: str | None) -> None:
    """Call the error callbacks that take (request, error, traceback) here; send the others the task's id."""
    sent: list[Any] = []
    for errback in request.errbacks or ():
        signature = maybe_signature(errback, app=app)
        try:
            task = signature.type
        except NotRegistered:
            sent.append(signature)
            continue
        if _takes_details(task):
            signature(request, error, traceback)
        else:
            sent.append(signature)
    if sent:
        task_id = str(request.id)
        group(sent, app=app).apply_async((task_id,), parent_id=task_id, root_id=request.root_id or task_id)


def _takes_details(task: Task[Any, Any]) -> bool:
    header = task.__header__
    if header is None or isinstance(header, partial):
        return False
    code = header.__code__
    return bool(code.co_flags & 0x04) or code.co_argcount > 1


def fail_chord(app: Celery, body: Any, error: BaseException) -> None:
    """Fail a chord's body, which will never run, and call its error callbacks."""
    members = [maybe_signature(task, app=app) for task in body.tasks] if isinstance(body, group) else [body]
    for member in members:
        task_id = member.id
        if task_id is None:
            continue
        context = Context({"id": task_id, "errbacks": member.options.get("link_error") or [],
                           "root_id": member.options.get("root_id"), "chord": member.options.get("chord"),
                           "group": member.options.get("group_id"), "task": member.task})  # fmt: skip
        try:
            record_failure(app, task_id, error, None, context, stores=True)
        except Exception:
            logger.exception("Failed to mark the chord body %s as failed", task_id)


def chord_error(task_id: str, error: BaseException) -> ChordError:
    """Return what a chord's body fails with when a task of its header failed."""
    made = ChordError(f"Dependency {task_id} raised {error!r}")
    made.__cause__ = error
    return made

"""Prepares the compiled tracer for the tasks of the fast lane, once per child.

Two things are made without Celery's code when a task succeeds: the context object and the stored meta. Both are
compared with what Celery makes of samples before they are used; if anything differs, Celery makes them.
"""

from __future__ import annotations

import json
import json.encoder
import logging
import os
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

import celery.app.task
import celery.app.trace as celery_trace
from celery import signals, states
from celery._state import _task_stack
from celery.app.base import Celery
from celery.backends.base import Backend
from celery.exceptions import SoftTimeLimitExceeded
from celery.loaders.base import BaseLoader
from celery.utils.saferepr import saferepr
from celery.utils.threads import LocalStack
from kombu.serialization import registry
from kombu.utils import json as kombu_json

from pyworker.compat.celery.lanes import KNOWN_BACKENDS, backend_reasons, lane_of
from pyworker.compat.celery.library_lane import LibraryLane
from pyworker.compat.celery.tracer_errors import CeleryErrors, TracerRules
from pyworker.compat.celery.versions import installed_version
from pyworker.worker.bodies import BodyDecoder
from pyworker.worker.config import Lane
from pyworker.worker.trace_hooks import TracerHooks
from pyworker.worker.tracing import ContextStack, MetaEncoder, Run, TaskBinding, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyworker.compat.celery.result_writer import ResultWriter

#: Keys of a message that are never custom headers, besides the attributes of a context.
_MESSAGE_KEYS = frozenset({"lang", "task", "argsrepr", "kwargsrepr", "compression"})
#: Requests whose contexts must come out the same from Celery's constructor and from ours.
_SAMPLE_REQUESTS: tuple[Mapping[str, Any], ...] = (
    {"id": "1", "task": "t", "timelimit": [None, None], "argsrepr": "()", "lang": "py", "delivery_info": {}},
    {"id": "2", "task": "t", "timelimit": [5, 3.5], "x-custom": 1, "redelivered": True, "compression": "gzip"},
    {"id": "3", "task": "t", "timelimit": None, "headers": {"a": 1}, "x-other": 2, "stamps": {"s": [1]}},
    {"id": "4", "task": "t", "headers": None, "ignore_result": False, "group": "g", "callbacks": None},
)
_SAMPLE_RESULTS: tuple[Any, ...] = (None, True, 3, 1.5, "\u00e9\ud800'\"", [1, {"a": (b"x", None)}], {"b": 2**70})


def make_tracer(
    app: Any,
    hostname: str,
    task_names: Sequence[str],
    lanes: Sequence[Lane],
    writer: ResultWriter | None,
    native_tasks: frozenset[str],
) -> Tracer:
    """Make the tracer of this child.

    Args:
        app: the Celery app, after the process was initialised.
        hostname: the worker's node name.
        task_names: names by task index.
        lanes: lanes by task index, as the parent chose them; a task may turn out to be slower here.
        writer: where results go natively.
        native_tasks: names of the tasks whose results go there.
    """
    rules = TracerRules.of(installed_version())
    encoder = _make_encoder(app, rules)
    hooks = _make_hooks(app, hostname, LibraryLane(app, hostname, task_names), encoder, rules, writer)
    if not _contexts_agree(hooks):
        hooks = replace(hooks, known_keys=None)
    stores_natively = False
    if writer is not None and writer.stores_metas:
        stores_natively = not backend_reasons(app.backend) and _metas_agree(app, encoder)
    if writer is not None and stores_natively:
        writer.encoder = encoder
    bindings = [
        _bind(app, app.tasks[name], stores_natively and name in native_tasks)
        if lane == Lane.FAST and _is_still_fast(app, app.tasks[name])
        else None
        for name, lane in zip(task_names, lanes, strict=True)
    ]
    return Tracer(bindings, hooks)


def _is_still_fast(app: Any, task: Any) -> bool:
    """Whether nothing that ran in this child since the parent chose put another tracer into the task."""
    tracer = task.__trace__
    return (
        isinstance(tracer, FunctionType)
        and tracer.__globals__ is vars(celery_trace)
        and tracer.__code__.co_name == "trace_task"
        and lane_of(app, task)[0] == Lane.FAST
    )


def _make_hooks(
    app: Any,
    hostname: str,
    library: LibraryLane,
    encoder: MetaEncoder,
    rules: TracerRules,
    writer: ResultWriter | None,
) -> TracerHooks:
    context_type = celery_trace.Context
    bodies = BodyDecoder(app.conf.accept_content)
    return TracerHooks(
        context_type=context_type,
        known_keys=_MESSAGE_KEYS.union(vars(context_type)),
        sets_time_limits="time_limit" in vars(context_type({"timelimit": [2, 1]})),
        protects_stack=getattr(celery.app.task.Task, "_stackprotected", False),
        decode_json=kombu_json.loads,
        json_is_plain=bodies.reads_plain_json,
        decode_body=bodies,
        encoder=encoder,
        errors=CeleryErrors(app, rules),
        library=library,
        explicit_ignore=rules.explicit_ignore,
        publish_errors=rules.publish_errors,
        reraised_errors=rules.reraised_errors,
        hostname=hostname,
        process_id=os.getpid(),
        prerun_receivers=signals.task_prerun.receivers,
        postrun_receivers=signals.task_postrun.receivers,
        success_receivers=signals.task_success.receivers,
        send_prerun=celery_trace.send_prerun,
        send_postrun=celery_trace.send_postrun,
        send_success=celery_trace.send_success,
        success_has_runtime=rules.success_has_runtime,
        logs_success=celery_trace.logger.isEnabledFor(logging.INFO),
        task_stack=_stack_access(_task_stack),
        text_of=saferepr,
        time_limit_error=SoftTimeLimitExceeded,
        writer=writer,
    )


def _stack_access(stack: Any) -> ContextStack:
    """Reach into a stack's storage if it is the one we know (greenlet-aware dictionaries)."""
    local = getattr(stack, "_local", None)
    storage = getattr(local, "__storage__", None)
    if type(stack) is LocalStack and LocalStack.__name__ == "_LocalStack" and type(storage) is dict:
        return ContextStack(stack.push, stack.pop, storage, stack.__ident_func__)
    return ContextStack(stack.push, stack.pop, None, None)


def _bind(app: Any, task: Any, stores_natively: bool) -> TaskBinding:
    has_custom = celery_trace.task_has_custom
    backend = task.backend
    return TaskBinding(
        task=task,
        name=task.name,
        function=task.run,
        backend=backend,
        request_stack=_stack_access(task.request_stack),
        key_prefix=backend.task_keyprefix if stores_natively else b"",
        stores_natively=stores_natively,
        result_text_size=task.resultrepr_maxsize,
        deduplicates=bool(
            (app.conf.task_acks_late or task.acks_late)
            and app.conf.worker_deduplicate_successful_tasks
            and app.backend.persistent
        ),
        before_start=task.before_start if has_custom(task, "before_start") else None,
        on_success=task.on_success if has_custom(task, "on_success") else None,
        after_return=task.after_return if has_custom(task, "after_return") else None,
        on_task_init=None if _is_default(app.loader, BaseLoader, "on_task_init") else app.loader.on_task_init,
        cleanup=_cleanup_of(app.loader, task, backend),
    )


def _is_default(instance: Any, owner: type, name: str) -> bool:
    return getattr(getattr(instance, name), "__func__", None) is vars(owner)[name]


def _cleanup_of(loader: Any, task: Any, backend: Any) -> Callable[[], None] | None:
    """Return what Celery's tracer calls after every task, None if it would do nothing."""
    if _is_default(backend, Backend, "process_cleanup") and _is_default(loader, BaseLoader, "on_process_cleanup"):
        return None

    def clean_up() -> None:
        try:
            task.backend.process_cleanup()
            loader.on_process_cleanup()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except Exception as error:
            celery_trace.logger.error("Process cleanup failed: %r", error, exc_info=True)

    return clean_up


def _make_encoder(app: Any, rules: TracerRules) -> MetaEncoder:
    """Make an encoder that writes containers as ``kombu.utils.json.dumps`` does."""
    own = kombu_json.JSONEncoder()
    markers: dict[int, Any] = {}
    make = getattr(json.encoder, "c_make_encoder", None)
    encode = make and make(
        markers,
        own.default,
        json.encoder.encode_basestring_ascii,
        None,
        own.key_separator,
        own.item_separator,
        own.sort_keys,
        own.skipkeys,
        own.allow_nan,
    )
    is_utc = not rules.local_dates or (
        _is_default(app, Celery, "now") and app.now().isoformat().endswith("+00:00") and str(app.timezone) == "UTC"
    )
    return MetaEncoder(
        encode or (lambda value, _level: own.iterencode(value)),
        markers,
        None if is_utc else (lambda: app.now().isoformat()),
        "+00:00" if rules.aware_dates else "",
    )


def _contexts_agree(hooks: TracerHooks) -> bool:
    tracer = Tracer([], replace(hooks, json_is_plain=False, decode_body=lambda body, *_: json.loads(body)))
    for sample in _SAMPLE_REQUESTS:
        properties = {"delivery_info": {"exchange": "", "routing_key": "q"}, "correlation_id": "c", "priority": 0}
        parts = [sample, properties, [[1], {"k": 2}, {"chord": None, "x-embedded": 1}]]
        headers, rest, body = (json.dumps(part).encode() for part in parts)
        run = tracer.decode(Run(1), (1, 0, headers, rest, body, "application/json", "utf-8", 1))
        theirs = hooks.context_type(dict(run.request), args=run.args, called_directly=False, kwargs=run.kwargs)
        ours = tracer.make_context(run)
        if type(ours) is not type(theirs) or list(vars(ours).items()) != list(vars(theirs).items()):
            return False
    return True


def _metas_agree(app: Any, encoder: MetaEncoder) -> bool:
    """Whether our meta is Celery's, byte for byte; false with another serializer, compression or extended results."""
    backend = app.backend
    codec = registry._encoders.get(backend.serializer)
    if codec is None or codec.encoder is not kombu_json.dumps or type(backend) not in KNOWN_BACKENDS:
        return False
    for sample in _SAMPLE_REQUESTS:
        for result in _SAMPLE_RESULTS:
            request = {**sample, "parent_id": "p", "is_eager": False}
            context = celery_trace.Context(dict(request))
            meta = backend._get_result_meta(result=result, state=states.SUCCESS, traceback=None, request=context)
            meta["task_id"] = sample["id"]
            ours = encoder.meta(request, sample["id"], result, meta["date_done"])
            if ours is not None and ours != backend.encode(meta):
                return False
    return True

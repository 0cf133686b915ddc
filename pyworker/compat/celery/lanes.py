"""Puts every task into its lane: what of Celery somebody replaced, and what that means for one task.

The fast lane does what Celery's own tracer does. So it takes a task only if nothing on the way was replaced:
every function is compared by where it was defined, not by its name, since wrappers copy names.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

import celery.app.task
import celery.app.trace
import celery.worker.request
import celery.worker.strategy
from celery import signals
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.backends.rpc import RPCBackend
from celery.local import maybe_evaluate
from kombu.serialization import prepare_accept_content, registry
from kombu.utils.imports import symbol_by_name

from pyworker.compat.celery.sqlite_backend import SQLiteBackend
from pyworker.worker.bodies import JSON, json_is_kombus
from pyworker.worker.config import Lane

#: Backends whose part the fast lane knows.
KNOWN_BACKENDS = (RedisBackend, SQLiteBackend, RPCBackend, DisabledBackend)
#: What Celery's tracer reaches of a backend when a task succeeds.
_BACKEND_METHODS = (
    "mark_as_done",
    "store_result",
    "_ensure_retryable",
    "_store_result",
    "_get_result_meta",
    "_get_task_meta_for",
    "_set_with_state",
    "set",
    "_set",
    "ensure",
    "encode",
    "_encode",
    "encode_result",
    "prepare_value",
    "destination_for",
    "_to_result",
    "current_task_children",
    "get_key_for_task",
    "_get_key_for",
    "on_chord_part_return",
)
#: Packages whose decoders kombu registers by itself.
_DECODER_PACKAGES = frozenset({"kombu", "yaml", "msgpack"})


def lane_of(app: Any, task: Any) -> tuple[Lane, tuple[str, ...]]:
    """Return the lane of a task and why it is not in a faster one."""
    task = maybe_evaluate(task)
    reasons = _parent_reasons(task)
    if reasons:
        return Lane.PARENT, tuple(reasons)
    reasons = [*_tracer_reasons(task), *backend_reasons(task.backend), *_decoder_reasons(app)]
    return (Lane.LIBRARY, tuple(reasons)) if reasons else (Lane.FAST, ())


def is_own(function: Any, module: Any, name: str) -> bool:
    """Whether ``function`` is the one of that name that ``module`` itself defines."""
    return (
        isinstance(function, FunctionType)
        and function.__globals__ is vars(module)
        and function.__code__.co_name == name
    )


def unpatched_method(instance: Any, name: str) -> bool:
    """Whether a method is the one that the class's own module defines. A method that does not exist is."""
    if name in getattr(instance, "__dict__", ()):
        return False
    for owner in type(instance).__mro__:
        if name in vars(owner):
            module = sys.modules.get(owner.__module__)
            return module is not None and is_own(vars(owner)[name], module, name)
    return True


def _parent_reasons(task: Any) -> list[str]:
    reasons = []
    if symbol_by_name(task.Request) is not celery.worker.request.Request:
        reasons.append(f"Task.Request is {_name_of(task.Request)}")
    if symbol_by_name(task.Strategy) is not celery.worker.strategy.default:
        reasons.append(f"Task.Strategy is {_name_of(task.Strategy)}")
    if signals.task_received.receivers:
        reasons.append("the signal task_received has receivers")
    return reasons


def _tracer_reasons(task: Any) -> list[str]:
    reasons = []
    trace = celery.app.trace
    if not is_own(trace.build_tracer, trace, "build_tracer"):
        reasons.append(f"celery.app.trace.build_tracer was replaced by {_name_of(trace.build_tracer)}")
    owner = _own_call(type(task))
    if owner is not None:
        reasons.append(f"{_name_of(owner)} defines __call__")
    return reasons


def _own_call(task_type: type) -> type | None:
    """Return the class whose ``__call__`` is neither Celery's nor the stack protection that its worker installs."""
    base = celery.app.task.Task
    for owner in task_type.__mro__:
        if "__call__" in vars(owner):
            call = vars(owner)["__call__"]
            is_celerys = owner is base and (
                is_own(call, celery.app.task, "__call__") or is_own(call, celery.app.trace, "__protected_call__")
            )
            return None if is_celerys else owner
    return None


def backend_reasons(backend: Any) -> list[str]:
    """Return what is not Celery's own in a result backend, as sentences."""
    if type(backend) not in KNOWN_BACKENDS:
        return [f"the result backend is {_name_of(type(backend))}"]
    patched = [name for name in _BACKEND_METHODS if not unpatched_method(backend, name)]
    return [f"the result backend's {name} was replaced" for name in patched]


def _decoder_reasons(app: Any) -> list[str]:
    reasons = []
    for content_type in sorted(prepare_accept_content(app.conf.accept_content) or registry._decoders):
        decoder = registry._decoders.get(content_type)
        if content_type == JSON:
            if not json_is_kombus():
                reasons.append(f"{content_type} is decoded by {_name_of(decoder)}")
        elif decoder is not None and str(decoder.__module__).split(".")[0] not in _DECODER_PACKAGES:
            reasons.append(f"{content_type} is decoded by {_name_of(decoder)}")
    return reasons


def _name_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or repr(value)
    return f"{module}.{name}" if module else name

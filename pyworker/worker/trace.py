# cython: language_level=3, annotation_typing=False, binding=False
"""Runs one task: from the raw message to the stored result, in the order of Celery's own tracer.

This module is compiled by Cython into the native extension (``pyworker._native_trace``) and runs unchanged as
plain Python (``PYWORKER_PURE_PYTHON=1``). It imports neither library: everything that belongs to one comes in
through :class:`TaskBinding` and :class:`TracerHooks`, and whatever is not the plain successful run of a task is
handed to the hooks, which call the library's own code.

``trace.pxd`` turns the classes here into extension types; names and attributes must agree.
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring_ascii
from time import gmtime, monotonic, strftime, time_ns
from typing import Any

from orjson import loads as decode_json

#: States and outcome numbers, spelled out because this module is compiled on its own.
STATE_SUCCESS = "SUCCESS"
STATE_STARTED = "STARTED"
OUTCOME_SUCCESS = 0

#: Flag bits of a job.
FLAG_REDELIVERED = 1
FLAG_RESULT_TEXT = 2

_NANOSECONDS = 1_000_000_000
#: What another JSON decoder might read differently than Python's: kombu's typed values (plain or with escaped
#: letters) and integers that may not fit into 64 bits.
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")
_BACKSLASH = 92
#: An integer of fewer digits always fits into 64 bits.
_LONG_NUMBER_DIGITS = 19


def has_long_number(data: Any, size: Any) -> Any:
    """Whether ``data`` holds a run of 19 digits; looks at every 19th byte first."""
    view = data
    position = _LONG_NUMBER_DIGITS - 1
    while position < size:
        if 48 <= view[position] <= 57:
            first = position
            while first > 0 and 48 <= view[first - 1] <= 57:
                first -= 1
            last = position
            while last + 1 < size and 48 <= view[last + 1] <= 57:
                last += 1
            if last - first + 1 >= _LONG_NUMBER_DIGITS:
                return True
        position += _LONG_NUMBER_DIGITS
    return False


def has_type_marker(data: Any, size: Any) -> Any:
    """Whether ``data`` holds ``__type__``; looks at every fourth byte first, one of which is a letter of it."""
    view = data
    position = 3
    while position < size:
        letter = view[position]
        start = -1
        if letter == 116:  # t
            start = position - 2
        elif letter == 121:  # y
            start = position - 3
        elif letter == 112:  # p
            start = position - 4
        elif letter == 101:  # e
            start = position - 5
        if (
            start >= 0
            and start + 8 <= size
            and view[start] == 95
            and view[start + 1] == 95
            and view[start + 2] == 116
            and view[start + 3] == 121
            and view[start + 4] == 112
            and view[start + 5] == 101
            and view[start + 6] == 95
            and view[start + 7] == 95
        ):
            return True
        position += 4
    return False


def is_plain_json(data: Any) -> Any:
    """Whether a fast JSON decoder reads ``data`` as kombu's does, if it can read it at all."""
    size = len(data)
    if has_long_number(data, size) or has_type_marker(data, size):
        return False
    return not (_BACKSLASH in data and _ESCAPED_LETTER.search(data) is not None)


def sendable(text: Any) -> Any:
    """Return ``text`` as it can be encoded: lone surrogates are replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class ContextStack:
    """Pushes and pops on a library's context-local stack, in its storage directly where its layout is known."""

    __slots__ = ("_identify", "_pop", "_push", "_storage")

    def __init__(self, push: Any, pop: Any, storage: Any, identify: Any) -> None:
        self._push = push
        self._pop = pop
        self._storage = storage
        self._identify = identify

    def push(self, item: Any) -> Any:
        """Push like the library's own stack."""
        if self._storage is not None:
            identity = self._identify()
            if identity not in self._storage:
                self._storage[identity] = {"stack": [item]}
                return
        self._push(item)

    def pop(self) -> Any:
        """Pop like the library's own stack: an emptied one leaves nothing behind."""
        if self._storage is not None:
            identity = self._identify()
            entry = self._storage.get(identity)
            if entry is not None and len(entry["stack"]) == 1:
                del self._storage[identity]
                return
        self._pop()


class TaskBinding:
    """What the tracer knows of one task; made once per child.

    Attributes:
        task: the library's task object, sender of every signal.
        name: its registered name.
        function: what is called with the arguments.
        backend: where its results go.
        request_stack: the task's own stack of contexts.
        key_prefix: prefix of its result keys, as bytes.
        stores_natively: whether a plain result may be encoded here and given to the link.
        result_text_size: longest result text in logs and events, or None.
        deduplicates: whether a redelivered message may belong to a task that already succeeded.
        before_start, on_success, after_return: hooks, None unless the task's class has its own.
        on_task_init, cleanup: the loader's and the backend's hooks, None unless overridden.
    """

    __slots__ = (
        "after_return",
        "backend",
        "before_start",
        "cleanup",
        "deduplicates",
        "function",
        "key_prefix",
        "name",
        "on_success",
        "on_task_init",
        "request_stack",
        "result_text_size",
        "stores_natively",
        "task",
    )

    def __init__(
        self,
        *,
        task: Any,
        name: Any,
        function: Any,
        backend: Any,
        request_stack: Any,
        key_prefix: Any,
        stores_natively: Any,
        result_text_size: Any,
        deduplicates: Any,
        before_start: Any,
        on_success: Any,
        after_return: Any,
        on_task_init: Any,
        cleanup: Any,
    ) -> None:
        self.task = task
        self.name = name
        self.function = function
        self.backend = backend
        self.request_stack = request_stack
        self.key_prefix = key_prefix
        self.stores_natively = stores_natively
        self.result_text_size = result_text_size
        self.deduplicates = deduplicates
        self.before_start = before_start
        self.on_success = on_success
        self.after_return = after_return
        self.on_task_init = on_task_init
        self.cleanup = cleanup


class Run:
    """One run of a task while it happens.

    Attributes:
        request: the message's headers and embedded options; the context's own dictionary once that exists.
        custom_headers: those of them that are not the library's own, or None.
        state, returned: how the body ended and what ``task_postrun`` shows.
        followers_sent: whether callbacks and chain were published, so that an error is the result store's.
        result, info: what Celery's tracer calls R and I; ``info`` is None for success.
    """

    __slots__ = (
        "args",
        "context",
        "custom_headers",
        "followers_sent",
        "ignored",
        "info",
        "kwargs",
        "request",
        "result",
        "returned",
        "runtime_s",
        "sequence",
        "started_s",
        "state",
        "task_id",
        "text",
        "wants_text",
    )

    def __init__(self, sequence: Any) -> None:
        self.sequence = sequence
        self.task_id = ""
        self.args: Any = None
        self.kwargs: Any = None
        self.request: Any = None
        self.custom_headers: Any = None
        self.context: Any = None
        self.ignored = False
        self.wants_text = False
        self.followers_sent = False
        self.state: Any = None
        self.returned: Any = None
        self.result: Any = None
        self.info: Any = None
        self.text = ""
        self.started_s = 0.0
        self.runtime_s = 0.0


class MetaEncoder:
    """Encodes the meta of a successful task: byte for byte what Celery and kombu's JSON make of it."""

    __slots__ = ("_encode_container", "_now", "_second", "_second_text", "_zone", "json_markers")

    def __init__(self, encode_container: Any, json_markers: Any, now: Any, zone: Any) -> None:
        """Make an encoder.

        Args:
            encode_container: turns a dict, list or tuple into JSON text chunks.
            json_markers: the set of containers that it is inside of; emptied after an error.
            now: gives ``date_done`` as text; None for UTC, which is made here.
            zone: how UTC is written.
        """
        self._encode_container = encode_container
        self.json_markers = json_markers
        self._now = now
        self._zone = zone
        self._second = -1
        self._second_text = ""

    def date(self) -> Any:
        """Return the present time as ``datetime.isoformat`` writes it."""
        if self._now is not None:
            return self._now()
        now_ns = time_ns()
        second = now_ns // _NANOSECONDS
        if second != self._second:
            self._second_text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
            self._second = second
        microsecond = (now_ns - second * _NANOSECONDS) // 1000
        if microsecond == 0:
            return f"{self._second_text}{self._zone}"
        return f"{self._second_text}.{microsecond:06d}{self._zone}"

    def value(self, value: Any) -> Any:
        """Return a result as JSON text, None if only the library's own encoder should try."""
        kind = type(value)
        if value is None:
            return "null"
        if kind is bool:
            return "true" if value else "false"
        if kind is int:
            try:
                return str(value)
            except ValueError:
                # More digits than Python writes; kombu's encoder says so in its own way.
                return None
        if kind is str:
            return encode_basestring_ascii(value)
        if kind is float:
            # Neither infinite nor not a number: those have names in JSON.
            return repr(value) if value - value == 0 else None
        if kind is dict or kind is list or kind is tuple:
            try:
                return "".join(self._encode_container(value, 0))
            except Exception:
                self.json_markers.clear()
        return None

    def meta(self, request: Any, task_id: Any, result: Any, date: Any) -> Any:
        """Return the meta of a success as text, None if the library has to make it."""
        if request.get("_children") or type(task_id) is not str:
            return None
        value = self.value(result)
        if value is None:
            return None
        extra = ""
        group = request.get("group")
        if group:
            if type(group) is not str:
                return None
            extra = f', "group_id": {encode_basestring_ascii(group)}'
        parent = request.get("parent_id")
        if parent:
            if type(parent) is not str:
                return None
            extra = f'{extra}, "parent_id": {encode_basestring_ascii(parent)}'
        return (
            f'{{"status": "SUCCESS", "result": {value}, "traceback": null, "children": [], "date_done": "{date}"'
            f'{extra}, "task_id": {encode_basestring_ascii(task_id)}}}'
        )


class Tracer:
    """Runs the jobs of one child. ``hooks`` is a :class:`pyworker.worker.trace_hooks.TracerHooks`."""

    __slots__ = (
        "_bindings",
        "_context_type",
        "_decode_body",
        "_decode_json",
        "_encoder",
        "_errors",
        "_explicit_ignore",
        "_hostname",
        "_json_is_plain",
        "_known_keys",
        "_library",
        "_logs_success",
        "_new_context",
        "_postrun_receivers",
        "_prerun_receivers",
        "_process_id",
        "_protects_stack",
        "_publish_errors",
        "_reraised_errors",
        "_send_postrun",
        "_send_prerun",
        "_send_success",
        "_sends_followers",
        "_sets_time_limits",
        "_success_has_runtime",
        "_success_receivers",
        "_task_stack",
        "_text_of",
        "_time_limit_error",
        "_writer",
    )

    def __init__(self, bindings: Any, hooks: Any) -> None:
        """Make a tracer.

        Args:
            bindings: a binding, or None for the library lane, for every task index.
            hooks: what belongs to the library.
        """
        self._bindings = bindings
        self._context_type = hooks.context_type
        self._new_context = hooks.context_type.__new__
        self._decode_body = hooks.decode_body
        self._decode_json = hooks.decode_json
        self._encoder = hooks.encoder
        self._errors = hooks.errors
        self._explicit_ignore = hooks.explicit_ignore
        self._hostname = hooks.hostname
        self._json_is_plain = hooks.json_is_plain
        self._known_keys = hooks.known_keys
        self._library = hooks.library
        self._logs_success = hooks.logs_success
        self._postrun_receivers = hooks.postrun_receivers
        self._prerun_receivers = hooks.prerun_receivers
        self._process_id = hooks.process_id
        self._protects_stack = hooks.protects_stack
        self._publish_errors = hooks.publish_errors
        self._reraised_errors = hooks.reraised_errors
        self._send_postrun = hooks.send_postrun
        self._send_prerun = hooks.send_prerun
        self._send_success = hooks.send_success
        self._sends_followers = hooks.sends_followers
        self._sets_time_limits = hooks.sets_time_limits
        self._success_has_runtime = hooks.success_has_runtime
        self._success_receivers = hooks.success_receivers
        self._task_stack = hooks.task_stack
        self._text_of = hooks.text_of
        self._time_limit_error = hooks.time_limit_error
        self._writer = hooks.writer

    def run(self, job: Any, link: Any) -> None:
        """Run one job and report it; raises only what ends the child."""
        sequence = job[0]
        index = job[1]
        run = Run(sequence)
        try:
            self.decode(run, job)
        except BaseException as error:
            self._fail_decoding(run, job, error, link)
            return
        run.wants_text = self._logs_success or job[7] & FLAG_RESULT_TEXT
        if self._writer is not None:
            self._writer.sequence = sequence
            self._writer.task_id = run.task_id
        binding = self._bindings[index]
        try:
            if binding is None or self._is_special(binding, run.request):
                self._library.trace(index, run, link)
                return
            self._trace(binding, run, job, link)
            if run.info is None:
                link.finish(sequence, OUTCOME_SUCCESS, run.runtime_s, sendable(run.text))
            else:
                self._library.finish(run, link)
        except BaseException as error:
            self._library.on_escaped(index, run, error, link)

    def _fail_decoding(self, run: Any, job: Any, error: Any, link: Any) -> Any:
        """Leave a damaged message to the parent. One that only took too long is sound: its task fails, and the
        message is decoded again to say whose failure that is."""
        if not isinstance(error, self._time_limit_error):
            # kombu makes a decoding error of everything that is raised while it decodes.
            cause = error.__context__
            if not isinstance(cause, self._time_limit_error):
                self._library.on_undecodable(run.sequence, error, link)
                return
            error = cause
        try:
            self.decode(run, job)
        except BaseException as damage:
            self._library.on_undecodable(run.sequence, damage, link)
        else:
            self._library.on_escaped(job[1], run, error, link)

    def _is_special(self, binding: Any, request: Any) -> Any:
        """Whether only Celery's own tracer knows what to do: publishing what follows, suspected repetitions."""
        if not self._sends_followers and (request.get("callbacks") or request.get("chain")):
            return True
        return binding.deduplicates and request["delivery_info"]["redelivered"]

    def decode(self, run: Any, job: Any) -> Any:
        """Decode the message and put the request together: what ``celery.worker.request.Request`` and
        ``fast_trace_task`` make of it, in their order."""
        request = self._json_of(job[2])
        properties = self._json_of(job[3])
        payload = self._body_of(job, request)
        if type(payload) is dict:
            # Arguments by name (protocol 1 in the body of a message with headers): rewritten in the parent.
            raise TypeError("the body is an object")
        args, kwargs, embed = payload
        delivery = properties.get("delivery_info")
        if not delivery:
            delivery = {}
        if job[7] & FLAG_REDELIVERED and not delivery.get("redelivered"):
            # As kombu does when it puts a message back.
            request["redelivered"] = True
            delivery["redelivered"] = True
        run.task_id = request["id"]
        run.args = args
        run.kwargs = kwargs
        run.request = request
        run.custom_headers = None
        self._collect_custom(run, request)
        request["properties"] = properties
        request["reply_to"] = properties.get("reply_to")
        request["correlation_id"] = properties.get("correlation_id")
        request["hostname"] = self._hostname
        request["delivery_info"] = {
            "exchange": delivery.get("exchange"),
            "routing_key": delivery.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": delivery.get("redelivered", False),
        }
        request["args"] = args
        request["kwargs"] = kwargs
        request["is_eager"] = False
        if embed:
            request.update(**embed)
            self._collect_custom(run, embed)
        return run

    def _collect_custom(self, run: Any, fields: Any) -> Any:
        known = self._known_keys
        if known is None:
            return
        for key in fields:
            if key not in known:
                if run.custom_headers is None:
                    run.custom_headers = {}
                run.custom_headers[key] = fields[key]

    def _json_of(self, data: Any) -> Any:
        """Decode headers or properties as kombu decodes an envelope."""
        if is_plain_json(data):
            try:
                return decode_json(data)
            except ValueError:
                # Not for this decoder: kombu's takes it or says what is wrong.
                pass
        return self._decode_json(data)

    def _body_of(self, job: Any, headers: Any) -> Any:
        body = job[4]
        if (
            self._json_is_plain
            and job[5] == "application/json"
            and body
            and not headers.get("compression")
            and is_plain_json(body)
        ):
            try:
                return decode_json(body)
            except ValueError:
                pass
        return self._decode_body(body, headers, job[5], job[6])

    def make_context(self, run: Any) -> Any:
        """Make the library's context of the request, which becomes the context's own dictionary."""
        request = run.request
        if self._known_keys is None:
            context = self._context_type(request, args=run.args, called_directly=False, kwargs=run.kwargs)
            run.request = context.__dict__
            return context
        request["called_directly"] = False
        if self._sets_time_limits and "timelimit" in request:
            limits = request["timelimit"]
            if (type(limits) is list or type(limits) is tuple) and len(limits) >= 2:
                request["time_limit"] = limits[0]
                request["soft_time_limit"] = limits[1]
            else:
                request["time_limit"] = None
                request["soft_time_limit"] = None
        if request.get("headers") is None:
            request["headers"] = run.custom_headers
        context = self._new_context(self._context_type)
        context.__dict__ = request
        return context

    def _trace(self, binding: Any, run: Any, job: Any, link: Any) -> Any:
        """The tracer's outermost level: what fails outside the task's body is an internal error."""
        run.started_s = monotonic()
        try:
            if type(run.kwargs) is not dict:
                self._errors.check_keyword_arguments(run.kwargs)
            run.context = self.make_context(run)
            ignored = run.request.get("ignore_result") if self._explicit_ignore else None
            if ignored is None:
                ignored = binding.task.ignore_result
            run.ignored = ignored
            self._task_stack.push(binding.task)
            binding.request_stack.push(run.context)
            try:
                self._run_between_signals(binding, run, link)
            finally:
                self._leave(binding, run)
        except self._reraised_errors:
            raise
        except Exception as error:
            # Decoded again: the signal shows the request as it came, not what became of it.
            request = self.decode(Run(run.sequence), job).request
            self._errors.on_internal_error(binding, run, error, request)

    def _run_between_signals(self, binding: Any, run: Any, link: Any) -> Any:
        task = binding.task
        if self._prerun_receivers:
            self._send_prerun(sender=task, task_id=run.task_id, task=task, args=run.args, kwargs=run.kwargs)
        if binding.on_task_init is not None:
            binding.on_task_init(run.task_id, task)
        if task.track_started and not run.ignored:
            started = {"pid": self._process_id, "hostname": self._hostname}
            task.backend.store_result(run.task_id, started, STATE_STARTED, request=run.context)
        try:
            if binding.before_start is not None:
                binding.before_start(run.task_id, run.args, run.kwargs)
            if self._protects_stack:
                # A task that calls itself, or its base class's ``__call__``, gets a context of its own.
                run.context._protected = 1
            if run.kwargs:
                run.returned = binding.function(*run.args, **run.kwargs)
            else:
                run.returned = binding.function(*run.args)
            run.state = STATE_SUCCESS
        except Exception as error:
            self._errors.on_body_error(binding, run, error)
        else:
            self._succeed(binding, run, link)
        if binding.after_return is not None:
            self._errors.call_after_return(binding, run)

    def _succeed(self, binding: Any, run: Any, link: Any) -> Any:
        try:
            if run.request.get("callbacks") or run.request.get("chain"):
                # Put there by the task itself: a message that came with them is not run here.
                self._errors.dispatch(binding, run)
            run.followers_sent = True
            self._store(binding, run, link)
        except self._publish_errors as error:
            self._errors.on_publish_error(binding, run, error)
            return
        run.text = self._text(run, binding.result_text_size)
        run.runtime_s = monotonic() - run.started_s
        if binding.on_success is not None:
            self._errors.call_on_success(binding, run)
        if self._success_receivers:
            if self._success_has_runtime:
                self._send_success(sender=binding.task, result=run.returned, runtime=run.runtime_s)
            else:
                self._send_success(sender=binding.task, result=run.returned)
        if self._logs_success:
            self._errors.log_success(binding, run)

    def _store(self, binding: Any, run: Any, link: Any) -> Any:
        """What ``mark_as_done`` does."""
        request = run.request
        stored = not run.ignored and not request.get("ignore_result")
        if stored:
            if not binding.stores_natively:
                binding.task.backend.mark_as_done(run.task_id, run.returned, run.context, True)
                return
            encoder = self._encoder
            meta = encoder.meta(request, run.task_id, run.returned, encoder.date())
            if meta is None:
                binding.task.backend.mark_as_done(run.task_id, run.returned, run.context, True)
                return
            link.store(run.sequence, binding.key_prefix + run.task_id.encode(), meta.encode(), True)
        if request.get("chord"):
            binding.task.backend.mark_as_done(run.task_id, run.returned, run.context, False)

    def _text(self, run: Any, size: Any) -> Any:
        """Return the result's text for logs and events, cut as the library cuts it; containers only if wanted."""
        value = run.returned
        kind = type(value)
        text = None
        if value is None:
            text = "None"
        elif kind is int or kind is bool or kind is float:
            text = str(value)
        elif kind is str and (size is None or len(value) < size):
            escaped = value.replace("'", "\\'")
            return f"'{escaped}'"
        if text is not None and (size is None or len(text) < size):
            return text
        return self._text_of(value, size) if run.wants_text else ""

    def _leave(self, binding: Any, run: Any) -> Any:
        try:
            if self._postrun_receivers:
                self._send_postrun(
                    sender=binding.task,
                    task_id=run.task_id,
                    task=binding.task,
                    args=run.args,
                    kwargs=run.kwargs,
                    retval=run.returned,
                    state=run.state,
                )
        finally:
            self._task_stack.pop()
            binding.request_stack.pop()
            if binding.cleanup is not None:
                binding.cleanup()

# Extension types for pyworker/worker/trace.py; the plain Python module works without this file.

cimport cython

cdef object STATE_SUCCESS, STATE_STARTED
cdef long OUTCOME_SUCCESS, FLAG_REDELIVERED, FLAG_RESULT_TEXT
cdef long long _NANOSECONDS
cdef Py_ssize_t _LONG_NUMBER_DIGITS
cdef long _BACKSLASH

@cython.locals(view="const unsigned char*", position=Py_ssize_t, first=Py_ssize_t, last=Py_ssize_t)
cpdef bint has_long_number(bytes data, Py_ssize_t size)

@cython.locals(
    view="const unsigned char*", position=Py_ssize_t, start=Py_ssize_t, letter="unsigned char"
)
cpdef bint has_type_marker(bytes data, Py_ssize_t size)

@cython.locals(size=Py_ssize_t)
cpdef bint is_plain_json(bytes data)

cpdef sendable(str text)

@cython.final
cdef class ContextStack:
    cdef object _identify, _pop, _push
    cdef dict _storage
    @cython.locals(identity=object)
    cpdef push(self, item)
    @cython.locals(entry=dict, stack=list)
    cpdef pop(self)

@cython.final
cdef class TaskBinding:
    cdef readonly object after_return, backend, before_start, cleanup, function, name, on_success
    cdef readonly object on_task_init, result_text_size, task
    cdef readonly ContextStack request_stack
    cdef readonly bytes key_prefix
    cdef readonly bint stores_natively, deduplicates

@cython.final
@cython.freelist(4)
cdef class Run:
    cdef public object context, ignored, info, kwargs, args, result, returned, sequence, state, task_id, text
    cdef public dict custom_headers, request
    cdef public double runtime_s, started_s
    cdef public bint followers_sent, wants_text

@cython.final
cdef class MetaEncoder:
    cdef object _encode_container, _now
    cdef public dict json_markers
    cdef long long _second
    cdef str _second_text, _zone
    @cython.locals(now_ns="long long", second="long long", microsecond=long)
    cpdef date(self)
    cpdef value(self, value)
    @cython.locals(value=object, extra=str)
    cpdef meta(self, dict request, task_id, result, date)

@cython.final
cdef class Tracer:
    cdef list _bindings
    cdef object _context_type, _decode_body, _decode_json, _errors, _explicit_ignore, _hostname, _json_is_plain
    cdef object _known_keys, _library, _logs_success, _new_context, _postrun_receivers, _prerun_receivers, _process_id, _protects_stack
    cdef object _publish_errors, _reraised_errors, _send_postrun, _send_prerun, _send_success, _sets_time_limits
    cdef object _success_has_runtime, _success_receivers, _text_of, _time_limit_error, _writer
    cdef MetaEncoder _encoder
    cdef ContextStack _task_stack
    cdef bint _sends_followers

    @cython.locals(binding=TaskBinding, run=Run)
    cpdef run(self, tuple job, link)
    cdef object _fail_decoding(self, Run run, tuple job, error, link)
    cdef bint _is_special(self, TaskBinding binding, dict request) except -1
    @cython.locals(request=dict, properties=dict, delivery=dict)
    cpdef decode(self, Run run, tuple job)
    @cython.locals(known=frozenset)
    cdef object _collect_custom(self, Run run, dict fields)
    cdef object _json_of(self, bytes data)
    @cython.locals(body=bytes)
    cdef object _body_of(self, tuple job, dict headers)
    @cython.locals(request=dict)
    cpdef make_context(self, Run run)
    cdef object _trace(self, TaskBinding binding, Run run, tuple job, link)
    cdef object _run_between_signals(self, TaskBinding binding, Run run, link)
    cdef object _succeed(self, TaskBinding binding, Run run, link)
    @cython.locals(request=dict, encoder=MetaEncoder)
    cdef object _store(self, TaskBinding binding, Run run, link)
    cdef object _text(self, Run run, size)
    cdef object _leave(self, TaskBinding binding, Run run)

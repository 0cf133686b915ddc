"""What the compiled tracer takes from a library, once per child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyworker._native import ChildLink
    from pyworker.worker.trace import ContextStack, MetaEncoder, Run, TaskBinding


class LibraryRuns(Protocol):
    """The library's own tracer, and what is reported in its name."""

    def trace(self, index: int, run: Run, link: ChildLink) -> None:
        """Run a decoded job by the library's tracer and report it."""

    def finish(self, run: Run, link: ChildLink) -> None:
        """Report a run that was no success."""

    def on_undecodable(self, sequence: int, error: BaseException, link: ChildLink) -> None:
        """Report a message that could not be decoded; raises the error again if it ends the child."""

    def on_escaped(self, index: int, run: Run, error: BaseException, link: ChildLink) -> None:
        """Report an exception that came out of the tracer; raises it again if it ends the child."""


class ErrorRules(Protocol):
    """Everything but the plain success: the library's own code, called at the place where its tracer calls it.

    Methods whose name starts with ``on_`` are called while the exception is being handled and fill the run's
    ``info``, ``result``, ``state`` and ``returned``.
    """

    def check_keyword_arguments(self, kwargs: Any) -> None:
        """Raise the library's error if they are not a mapping."""

    def on_body_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle an exception of the task's body: reject, ignore, retry or failure."""

    def on_publish_error(self, binding: TaskBinding, run: Run, error: Exception) -> None:
        """Handle one of ``publish_errors``, raised while the result was stored or the next task published."""

    def on_internal_error(self, binding: TaskBinding, run: Run, error: Exception, request: dict[str, Any]) -> None:
        """Handle an exception from outside the task's body. ``request`` is the request as it came."""

    def dispatch(self, binding: TaskBinding, run: Run) -> None:
        """Publish the callbacks and the chain that the task itself attached to its request."""

    def call_on_success(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``on_success``."""

    def call_after_return(self, binding: TaskBinding, run: Run) -> None:
        """Call the task's own ``after_return``, if the state is one that has it."""

    def log_success(self, binding: TaskBinding, run: Run) -> None:
        """Write the line that says that the task succeeded."""


class CurrentJob(Protocol):
    """Who wants to know which job runs."""

    sequence: int
    task_id: str


@dataclass(frozen=True, kw_only=True)
class TracerHooks:
    """What belongs to the library, not to one task."""

    #: Class of ``task.request``.
    context_type: type
    #: Keys of a request that are no custom headers; None if the context must be made by its own constructor.
    known_keys: frozenset[str] | None
    #: Whether the context splits ``timelimit`` into two attributes.
    sets_time_limits: bool
    #: Whether the library's ``__call__`` would run the task's function and mark the request as protected.
    protects_stack: bool
    #: kombu's decoder of envelopes.
    decode_json: Callable[[bytes], Any]
    #: Whether bodies of type ``application/json`` may be decoded without kombu.
    json_is_plain: bool
    #: Decodes every other body: (body, headers, content type, content encoding).
    decode_body: Callable[[bytes, Mapping[str, Any], str, str], Any]
    encoder: MetaEncoder
    errors: ErrorRules
    library: LibraryRuns
    #: Whether the message's ``ignore_result`` counts before the task's.
    explicit_ignore: bool
    #: Errors of storing and publishing that make the task fail instead of being internal.
    publish_errors: tuple[type[Exception], ...]
    #: Errors that leave the tracer instead of being internal.
    reraised_errors: tuple[type[Exception], ...]
    hostname: str
    process_id: int
    #: Lists of the signals' receivers, looked at for every task.
    prerun_receivers: list[Any]
    postrun_receivers: list[Any]
    success_receivers: list[Any]
    send_prerun: Callable[..., Any]
    send_postrun: Callable[..., Any]
    send_success: Callable[..., Any]
    success_has_runtime: bool
    logs_success: bool
    #: The stack of running tasks.
    task_stack: ContextStack
    #: Text of a result, bounded: (value, size).
    text_of: Callable[[Any, int | None], str]
    #: Raised where the task is when its soft time limit is over.
    time_limit_error: type[BaseException]
    #: Told which job runs; None if nobody asks.
    writer: CurrentJob | None
    #: Whether :meth:`ErrorRules.dispatch` also publishes what came with the message, not only what the task attached.
    sends_followers: bool = False

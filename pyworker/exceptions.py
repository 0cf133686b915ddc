"""Exceptions of pyworker. Names and meaning are Celery's where Celery has them.

::

    PyworkerError
    ├── ImproperlyConfigured
    ├── SecurityError
    ├── OperationalError
    ├── TaskPredicate
    │   ├── Retry
    │   ├── Ignore
    │   └── Reject
    ├── TaskError
    │   ├── QueueNotFound (KeyError)
    │   ├── IncompleteStream
    │   ├── NotRegistered (KeyError)
    │   ├── AlreadyRegistered
    │   ├── TimeoutError
    │   ├── MaxRetriesExceededError
    │   ├── TaskRevokedError
    │   ├── InvalidTaskError
    │   └── ChordError
    ├── BackendError
    │   ├── BackendGetMetaError
    │   └── BackendStoreError
    └── WorkerLostError, TimeLimitExceeded, SoftTimeLimitExceeded, Terminated
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class PyworkerError(Exception):
    """Base of everything pyworker raises by itself."""


#: The name under which Celery's users catch it.
CeleryError = PyworkerError


class PyworkerWarning(UserWarning):
    """Base of everything pyworker warns about by itself."""


#: The name under which Celery's users filter it.
CeleryWarning = PyworkerWarning


class AlwaysEagerIgnored(PyworkerWarning):
    """``send_task`` sends although ``task_always_eager`` is set."""


class DuplicateTaskNameWarning(PyworkerWarning):
    """Several functions want to be the task of one name."""


class DuplicateNodenameWarning(PyworkerWarning):
    """Several workers have one node name."""


class FixupWarning(PyworkerWarning):
    """The surroundings ask for something that cannot be done, such as Django's settings without Django."""


class NotConfigured(PyworkerWarning):
    """There is no configuration module."""


class SecurityWarning(PyworkerWarning):
    """Something may be unsafe."""


class ImproperlyConfigured(PyworkerError):
    """A setting or option is missing, wrong, or not supported; the text names it."""


class SecurityError(PyworkerError):
    """Something is refused because it could be used for an attack."""


class OperationalError(PyworkerError):
    """The broker or the result store cannot be reached or refuses to work.

    Programs that have kombu loaded may expect its exception of this name: there it is one of those too.
    """

    def __new__(cls, *args: object) -> OperationalError:
        """Make one that whoever waits for kombu's can catch as well."""
        kombu = sys.modules.get("kombu.exceptions")
        if kombu is None or cls is not OperationalError:
            return super().__new__(cls, *args)
        made: OperationalError = Exception.__new__(_of_both_kinds(kombu.OperationalError), *args)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return OperationalError, self.args


@cache
def _of_both_kinds(kombus: type[Exception]) -> Any:
    """Our error and kombu's in one class."""
    return type(OperationalError.__name__, (OperationalError, kombus), {"__module__": OperationalError.__module__})


class TaskPredicate(PyworkerError):
    """Base of what a task raises to say how its run ends."""


def _describe(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<Unrepresentable {type(value)!r}: {error!r}>"


class Retry(TaskPredicate):
    """The task was sent again; raised by :meth:`Task.retry`."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        self.message = message
        self.exc: BaseException | None = None
        self.excs: str | None = None
        if isinstance(exc, str):
            self.excs = exc
        elif exc is not None:
            self.exc, self.excs = exc, _describe(exc)
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, exc, when)

    def humanize(self) -> str:
        """Say when the next try is due."""
        return f"in {self.when}s" if isinstance(self.when, (int, float)) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}: {self.excs}" if self.excs else f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[type[Retry], tuple[Any, ...]]:
        return type(self), (self.message, self.exc, self.when)


class Ignore(TaskPredicate):
    """No state is stored for this run; the message is acknowledged."""


class Reject(TaskPredicate):
    """The message is rejected (effective with late acknowledgement)."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class TaskError(PyworkerError):
    """Base of the errors that concern one task."""


class QueueNotFound(KeyError, TaskError):
    """A task is routed to a queue that is not in ``task_queues``."""


class IncompleteStream(TaskError):
    """The results came to an end before all of them were there."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is known here."""

    def __repr__(self) -> str:
        return f"Task of kind {self} never registered, please make sure it's imported."


class AlreadyRegistered(TaskError):
    """A task of that name exists already."""


class TimeoutError(TaskError):
    """The result did not come within the given time."""


class MaxRetriesExceededError(TaskError):
    """The task may not be tried again."""

    def __init__(self, *args: object, task_args: Any = (), task_kwargs: Any = None) -> None:
        self.task_args = task_args
        self.task_kwargs = {} if task_kwargs is None else task_kwargs
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked or expired: there is no result."""


class InvalidTaskError(TaskError):
    """A message does not describe a task."""


class ChordError(TaskError):
    """A task of a chord's header failed."""


class BackendError(PyworkerError):
    """The result store failed."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""

    def __init__(self, *args: object, task_id: str = "") -> None:
        self.task_id = task_id
        super().__init__(*args)


class BackendStoreError(BackendError):
    """A result could not be stored."""

    def __init__(self, *args: object, task_id: str = "", state: str = "") -> None:
        self.task_id = task_id
        self.state = state
        super().__init__(*args)


class SoftTimeLimitExceeded(Exception):
    """The soft time limit is over; a task may catch this to clean up."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(Exception):
    """The hard time limit is over; the child was killed."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(Exception):
    """The child that ran the task died."""


class Terminated(Exception):
    """The task was terminated by remote control."""


class WorkerTerminate(SystemExit):
    """Raised to stop the worker at once."""


class WorkerShutdown(SystemExit):
    """Raised to stop the worker after its running tasks."""

"""An exception with its traceback as text, as hooks and signals get it (``einfo``)."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any


class ExceptionInfo:
    """What is known of an exception.

    Attributes:
        type, exception, tb: the exception.
        traceback: the whole text.
        internal: whether it came from outside the task's body.
    """

    __slots__ = ("exception", "internal", "tb", "traceback", "type")

    def __init__(self, error: BaseException, internal: bool = False) -> None:
        self.type: type[BaseException] = type(error)
        self.exception = error
        self.tb: TracebackType | None = error.__traceback__
        self.traceback = "".join(traceback.format_exception(error))
        self.internal = internal

    @property
    def exc_info(self) -> Any:
        """What logging takes."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def clear_frames(error: BaseException | None) -> None:
    """Let go of everything that the frames of a traceback hold."""
    step = error.__traceback__ if error is not None else None
    while step is not None:
        try:
            step.tb_frame.clear()
        except RuntimeError:
            pass  # still running
        step = step.tb_next


def describe(value: object) -> str:
    """Return a repr, whatever happens."""
    try:
        return repr(value)
    except Exception as error:
        return f"<Unrepresentable {type(value)!r}: {error!r}>"

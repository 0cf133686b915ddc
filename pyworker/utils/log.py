"""Loggers whose records carry the running task's name and id."""

from __future__ import annotations

import logging

from pyworker.log import ColorFormatter, LoggedStream, level_number

__all__ = [
    "ColorFormatter",
    "LoggingProxy",
    "base_logger",
    "get_logger",
    "get_task_logger",
    "mlevel",
    "task_logger",
    "worker_logger",
]

#: What stands for a redirected standard stream.
LoggingProxy = LoggedStream

base_logger = logging.getLogger("celery")
#: Its handler formats by ``worker_task_log_format``.
task_logger = logging.getLogger("celery.task")
worker_logger = logging.getLogger("celery.worker")

_RESERVED = frozenset({"celery", "celery.task"})


def get_logger(name: str) -> logging.Logger:
    """Return a logger; one that is not directly below the root is put below ``celery``."""
    logger = logging.getLogger(name)
    return logger if logging.root in (logger, logger.parent) or logger is base_logger else _below(base_logger, logger)


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger below ``celery.task``, whatever its name; to be called with ``__name__``.

    Raises:
        RuntimeError: the name is one of the loggers that it is to be below.
    """
    if name in _RESERVED:
        raise RuntimeError(f"Logger name {name!r} is reserved!")
    return _below(task_logger, logging.getLogger(name))


def mlevel(level: str | int | None) -> int | None:
    """Return a level's number, given by name or number; None and 0 stay."""
    return level_number(level) if level else level  # type: ignore[return-value]


def _below(parent: logging.Logger, logger: logging.Logger) -> logging.Logger:
    above: logging.Logger | None = logger
    while above is not None and above is not parent:
        above = above.parent
    if above is None:
        logger.parent = parent
    return logger

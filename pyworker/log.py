"""Logging of the worker: Celery's formats and logger names."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

from pyworker.current import task_stack
from pyworker.signals import after_setup_logger, after_setup_task_logger, setup_logging

if TYPE_CHECKING:
    from pyworker.conf import Settings

_COLORS = {"DEBUG": "\033[1;34m", "WARNING": "\033[1;33m", "ERROR": "\033[1;31m", "CRITICAL": "\033[1;35m"}
_PLAIN = "\033[0m"


class ColorFormatter(logging.Formatter):
    """Colours records by their level.

    Args:
        fmt, datefmt: as of ``logging.Formatter``.
        use_color: whether to.
    """

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, use_color: bool = True) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        text = super().format(record)
        color = _COLORS.get(record.levelname) if self.use_color else None
        return f"{color}{text}{_PLAIN}" if color else text


class TaskFormatter(ColorFormatter):
    """Adds the running task's name and id."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        task = task_stack.top
        record.task_name = task.name if task is not None else getattr(record, "task_name", "???")
        record.task_id = task.request.id if task is not None else getattr(record, "task_id", "???")
        return super().format(record)


class LoggedStream:
    """Stands for a standard stream: every line written becomes a record."""

    encoding = "utf-8"
    closed = False

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._is_writing = False

    def write(self, text: str) -> int:
        """Log a text unless this is the logging's own output."""
        stripped = text.rstrip() if not self._is_writing else ""
        if stripped:
            self._is_writing = True
            try:
                self._logger.log(self._level, stripped)
            finally:
                self._is_writing = False
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Log lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Never a terminal."""
        return False

    def fileno(self) -> int:
        """The descriptor of the process's own stream."""
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2


def level_number(level: str | int | None) -> int:
    """Return a level's number; the names may be in lower case."""
    if level is None or isinstance(level, int):
        return level or logging.WARNING
    return int(level) if level.isdigit() else int(getattr(logging, level.upper()))


def configure_logging(conf: Settings, level: str | int | None, logfile: str | None, use_color: bool | None) -> bool:
    """Set up the root and the task logger, unless a receiver of ``setup_logging`` does.

    Returns:
        Whether a receiver did.

    Raises:
        Exception: what a receiver raised.
    """
    number = level_number(level)
    color = wants_color(conf.worker_log_color if use_color is None else use_color, logfile)
    text = conf.worker_log_format
    answers = setup_logging.send(sender=None, loglevel=number, logfile=logfile, format=text, colorize=color)
    for _, answer in answers:
        if isinstance(answer, Exception):
            raise answer
    if answers:
        return True
    root = logging.getLogger()
    if conf.worker_hijack_root_logger:
        for name in (None, "celery", "celery.task", "celery.redirected"):
            logging.getLogger(name).handlers = []
    if not root.handlers:
        _add_handler(root, logfile, ColorFormatter(text, conf.worker_log_datefmt, color))
    root.setLevel(number)
    named = {"loglevel": number, "logfile": logfile, "format": text, "colorize": color}
    after_setup_logger.send(sender=None, logger=root, **named)
    tasks = logging.getLogger("celery.task")
    _add_handler(tasks, logfile, TaskFormatter(conf.worker_task_log_format, conf.worker_task_log_datefmt, color))
    tasks.setLevel(number)
    tasks.propagate = False
    after_setup_task_logger.send(sender=None, logger=tasks, **{**named, "format": conf.worker_task_log_format})
    logging.captureWarnings(True)
    return False


def redirect_stdouts(level: str | int, name: str = "celery.redirected") -> None:
    """Turn what is printed into log records."""
    stream: Any = LoggedStream(logging.getLogger(name), level_number(level))
    sys.stdout = sys.stderr = stream


def wants_color(wanted: bool | None, logfile: str | None) -> bool:
    """Whether records are coloured: if nothing is against it and they go to a terminal."""
    stream = sys.__stderr__
    return wanted is not False and logfile is None and stream is not None and stream.isatty()


def _add_handler(logger: logging.Logger, logfile: str | None, formatter: logging.Formatter) -> None:
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(formatter)
    logger.addHandler(handler)

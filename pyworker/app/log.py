"""``app.log``: logging as the worker sets it up, for programs that want the same."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from pyworker.log import (
    LoggedStream,
    TaskFormatter,
    configure_logging,
    level_number,
    redirect_stdouts,
    wants_color,
)

if TYPE_CHECKING:
    from pyworker.app.configuring import Configuring

__all__ = ["Logging", "TaskFormatter"]


class Logging:
    """Logging by an app's settings."""

    #: Whether :meth:`setup` configured logging in this process.
    already_setup = False

    def __init__(self, app: Configuring) -> None:
        self.app = app

    def setup(
        self,
        loglevel: str | int | None = None,
        logfile: str | None = None,
        redirect_stdouts: bool = False,
        redirect_level: str | int = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> bool:
        """Set up the root and the task logger; a second call does nothing.

        Args:
            loglevel: level of both, WARNING if not given.
            logfile: where to log, standard error if not given.
            redirect_stdouts: turn what is printed into records.
            redirect_level: their level.
            colorize: colours; as the settings and the terminal say if not given.
            hostname: without effect; the worker expands its file's name itself.

        Returns:
            Whether a receiver of ``setup_logging`` did it instead.
        """
        handled = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize)
        if not handled and redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        return handled

    def setup_logging_subsystem(
        self, loglevel: str | int | None = None, logfile: str | None = None, colorize: bool | None = None, **_other: Any
    ) -> bool:
        """Set up the loggers; returns whether a receiver of ``setup_logging`` did it instead."""
        if Logging.already_setup:
            return False
        Logging.already_setup = True
        return configure_logging(self.app.conf, loglevel, logfile, colorize)

    def redirect_stdouts(self, loglevel: str | int | None = None, name: str = "celery.redirected") -> None:
        """Turn what is printed into records of a logger."""
        redirect_stdouts(self.app.conf.worker_redirect_stdouts_level if loglevel is None else loglevel, name)

    @staticmethod
    def redirect_stdouts_to_logger(
        logger: logging.Logger, loglevel: str | int | None = None, stdout: bool = True, stderr: bool = True
    ) -> LoggedStream:
        """Turn what is printed into records of a logger; returns the stream that does."""
        stream: Any = LoggedStream(logger, level_number(loglevel))
        if stdout:
            sys.stdout = stream
        if stderr:
            sys.stderr = stream
        return stream  # type: ignore[no-any-return]

    def supports_color(self, colorize: bool | None = None, logfile: str | None = None) -> bool:
        """Whether records would be coloured."""
        return wants_color(self.app.conf.worker_log_color if colorize is None else colorize, logfile)

    @staticmethod
    def get_default_logger(name: str = "celery") -> logging.Logger:
        """Return a logger."""
        return logging.getLogger(name)

"""Cameras: at intervals, what the events have drawn is given to code that keeps it."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kombu.utils.limits import TokenBucket

from pyworker.current import app_or_default
from pyworker.dispatch import Signal
from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.native_config import per_second
from pyworker.worker.pidfile import Pidfile
from pyworker.worker.repeater import Repeater

if TYPE_CHECKING:
    from typing_extensions import Self

    from pyworker.app.base import Celery
    from pyworker.events.state import State

__all__ = ["Polaroid", "evcam"]

logger = logging.getLogger("celery.evcam")


class Polaroid:
    """A camera: subclass it and override :meth:`on_shutter`.

    Args:
        state: the picture.
        freq: seconds between two shots.
        maxrate: at most so many shots, such as ``"10/m"``; further ones are left out.
        cleanup_freq: seconds between two calls of :meth:`on_cleanup`.
        timer: calls functions at intervals (``call_repeatedly``); one of its own if not given.
        app: the application, the current one if not given.

    Raises:
        ImproperlyConfigured: ``maxrate`` is no rate.
    """

    #: Sent with the state as its sender.
    shutter_signal = Signal("shutter_signal", frozenset({"state"}))
    cleanup_signal = Signal("cleanup_signal")
    #: Forget after each shot what has ended.
    clear_after = False
    timer: Any = None

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Celery | None = None,
    ) -> None:
        self.app = app_or_default(app)
        self.state = state
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.timer = timer or self.timer or Repeater("pyworker-camera")
        self.logger = logger
        per_s = per_second(maxrate, "the camera (maxrate)")
        self.maxrate = TokenBucket(per_s) if per_s else None
        self._entries: list[Any] = []

    def install(self) -> None:
        """Begin to take pictures."""
        self._entries = [
            self.timer.call_repeatedly(self.freq, self.capture),
            self.timer.call_repeatedly(self.cleanup_freq, self.cleanup),
        ]

    def cancel(self) -> None:
        """Take a last picture, and no more."""
        if self._entries:
            self.capture()
        for entry in self._entries:
            entry.cancel()
        self._entries = []

    def on_shutter(self, state: State) -> None:
        """Keep the picture; called while it does not change."""

    def on_cleanup(self) -> None:
        """Put away what was kept for long enough."""

    def capture(self) -> None:
        """Take a picture."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def shutter(self) -> None:
        """Show the picture to everybody, unless the rate is used up."""
        if self.maxrate is None or self.maxrate.can_consume():
            logger.debug("Shutter: %s", self.state)
            self.shutter_signal.send(sender=self.state)
            self.on_shutter(self.state)

    def cleanup(self) -> None:
        """Tell everybody to clean up."""
        logger.debug("Cleanup: Running...")
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_error: object) -> None:
        self.cancel()


def evcam(
    camera: str | type[Polaroid],
    freq: float = 1.0,
    maxrate: str | float | None = None,
    loglevel: str | int = 0,
    logfile: str | None = None,
    pidfile: str | None = None,
    timer: Any = None,
    app: Celery | None = None,
) -> None:
    """Take pictures until the process is interrupted.

    Args:
        camera: the camera's class, or where it is (``module.Class``).
        freq, maxrate, timer: as of :class:`Polaroid`.
        loglevel, logfile: how logging is set up.
        pidfile: a file that holds the process's id meanwhile.
        app: the application, the current one if not given.

    Raises:
        ImproperlyConfigured: there is no such camera.
        PidfileLocked: the file is that of a living process.
    """
    app = app_or_default(app)
    kind = _camera(camera)
    held = Pidfile(pidfile) if pidfile else None
    if held is not None:
        held.acquire()
    app.log.setup_logging_subsystem(loglevel or None, logfile)
    print(f"-> evcam: Taking snapshots with {camera} (every {freq} secs.)", flush=True)
    state = app.events.State()
    taken = kind(state, app=app, freq=freq, maxrate=maxrate, timer=timer)
    taken.install()
    try:
        with app.connection_for_read() as connection:
            while True:
                connection.ensure_connection(_tell_of_outage)
                try:
                    app.events.Receiver(connection, handlers={"*": state.event}).capture(limit=None)
                except (*connection.connection_errors, *connection.channel_errors) as error:
                    logger.warning("evcam: connection lost: %r", error)
                    connection.close()
    except KeyboardInterrupt:
        raise SystemExit from None
    finally:
        taken.cancel()
        if held is not None:
            held.release()


def _tell_of_outage(error: Exception, wait_s: float) -> None:
    logger.warning("evcam: cannot connect: %r; trying again in %g s", error, wait_s)


def _camera(camera: str | type[Polaroid]) -> Any:
    """Return the class that a path names.

    Raises:
        ImproperlyConfigured: there is none.
    """
    if not isinstance(camera, str):
        return camera
    module, _, name = camera.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(f"the camera {camera!r} cannot be imported: {error}") from error

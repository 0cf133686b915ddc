"""The one kombu connection that a node keeps beside the engine's own, and the one thread that owns it.

Remote control, gossip, events and the watch over the queues are parts of it: what they say is rare or comes in batches,
and a connection each is what operators of large fleets run out of. A part that fails for a reason of its own (an
exchange it may not use) is tried again by itself; what breaks the connection breaks all parts, and they come back with
the next one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from pyworker.worker.draining import Drain
from pyworker.worker.liveness import bound_answers
from pyworker.worker.redis_line import deliver_what_was_read, keep_to_one_connection, was_cut

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celery.worker")

_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 15.0
#: A part that failed so often in a row may be held up by the connection after all (a demoted primary).
_FAILURES_PER_CONNECTION = 6


class LinePart:
    """One who uses the connection. All methods are called in the line's thread."""

    #: For log lines.
    name = ""

    def open(self, connection: Any) -> None:
        """The connection is new: subscribe."""

    def turn(self, connection: Any) -> bool:
        """Do what waits; called whenever something happened. Returns whether there is more to do at once."""
        return False

    def due_s(self) -> float:
        """When a turn is wanted even if nothing happens, on the monotonic clock."""
        return math.inf

    def close(self) -> None:
        """Take leave of the server; the connection stays for the others."""

    def lost(self) -> None:
        """The connection is gone."""


class _Seat:
    """A part's place at the line."""

    def __init__(self, part: LinePart) -> None:
        self.part = part
        self.is_open = False
        self.is_leaving = False
        self.left = threading.Event()
        self.failures = 0
        self.not_before_s = 0.0

    def start_anew(self) -> None:
        """The connection it was open on is gone."""
        if self.is_open:
            self.part.lost()
        self.is_open, self.not_before_s = False, 0.0

    def due_s(self) -> float:
        """When it wants to be looked at, on the monotonic clock."""
        return self.part.due_s() if self.is_open else self.not_before_s


class BrokerLine:
    """The connection and its thread; both exist only while there is a part.

    Args:
        connect: makes a kombu connection, not opened yet.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._seats: list[_Seat] = []
        self._thread: threading.Thread | None = None
        self._drain: Drain | None = None

    def add(self, part: LinePart) -> None:
        """Let a part use the line from now on; its ``open`` follows in the line's thread."""
        with self._lock:
            self._seats.append(_Seat(part))
            if self._drain is None:
                self._drain = Drain()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pyworker-broker-line", daemon=True)
                self._thread.start()
        self.ring()

    def ring(self) -> None:
        """Have every part's turn come soon."""
        if self._drain is not None:
            self._drain.ring()

    def remove(self, part: LinePart, *, deadline_s: float = 5.0) -> None:
        """Let a part do what it still has to do and take leave; waits for it, at most until the deadline. Idempotent.

        With the last part the connection goes; that is waited for too.
        """
        with self._lock:
            seat = next((each for each in self._seats if each.part is part), None)
            if seat is None:
                return
            seat.is_leaving = True
            thread = self._thread
        self.ring()
        if thread is threading.current_thread():
            return  # a turn of its own; the leave follows it
        end = time.monotonic() + deadline_s
        seat.left.wait(deadline_s)
        self._take_away(seat)
        with self._lock:
            is_last = not self._seats
        if is_last and thread is not None:
            thread.join(max(end - time.monotonic(), 0.0))

    # -- the thread

    def _run(self) -> None:
        wait_s = _FIRST_RETRY_S
        while self._is_needed():
            connection, connected_s = None, math.inf
            try:
                connection = bound_answers(keep_to_one_connection(self._connect()))
                connection.connect()
                connected_s = time.monotonic()
                self._serve(connection)
                connection.release()
            except Exception as error:  # whatever the transport raises, the line comes back
                if connection is not None:
                    # Without a word to the server: it may be gone, and its answer would be waited for.
                    with contextlib.suppress(Exception):
                        connection.collect()
                if time.monotonic() - connected_s > wait_s:
                    wait_s = _FIRST_RETRY_S  # it was a good connection
                self._let_go()
                if self._seats:
                    names = ", ".join(seat.part.name for seat in self._seats)
                    logger.warning("%s: connection lost: %r; trying again in %.1f s", names, error, wait_s)
                    self._pause(wait_s)
                    wait_s = min(wait_s * 2, _LONGEST_RETRY_S)

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._seats:
                self._thread = None
            return bool(self._seats)

    def _serve(self, connection: Any) -> None:
        """Give the parts their turns until the last one left.

        Raises:
            Exception: the connection is of no use any more.
        """
        opened = connection.connection
        drain = self._drain
        assert drain is not None
        while self._seats:
            if self._open_parts(connection):
                # kombu subscribes when it first looks for events, not when the consumer is made.
                drain.deliver(connection)
            has_more = False
            for seat in list(self._seats):
                has_more |= self._take_turn(seat, connection)
            deliver_what_was_read(connection)
            if was_cut(connection) or connection._connection is not opened:
                # A part's own attempts have connected anew; the subscriptions of the others are gone.
                raise ConnectionError("the connection was lost")
            if self._seats and drain.wait(connection, 0.0 if has_more else self._longest_wait_s()):
                drain.deliver(connection)

    def _open_parts(self, connection: Any) -> bool:
        now_s = time.monotonic()
        is_any_new = False
        for seat in list(self._seats):
            if not seat.is_open and now_s >= seat.not_before_s:
                seat.is_open = self._attempt(seat, connection, seat.part.open) is not None
                is_any_new |= seat.is_open
        return is_any_new

    def _take_turn(self, seat: _Seat, connection: Any) -> bool:
        has_more = bool(seat.is_open and self._attempt(seat, connection, seat.part.turn))
        if seat.is_leaving and not has_more:
            if seat.is_open:
                with contextlib.suppress(Exception):
                    seat.part.close()
            self._take_away(seat)
        return has_more

    def _attempt(self, seat: _Seat, connection: Any, call: Callable[[Any], bool | None]) -> bool | None:
        """Call a part; ``None`` if it failed.

        Raises:
            Exception: it failed because of the connection.
        """
        try:
            result = bool(call(connection))
        except connection.connection_errors:
            raise
        except Exception as error:
            seat.failures += 1
            if seat.failures % _FAILURES_PER_CONNECTION == 0:
                raise
            with contextlib.suppress(Exception):
                seat.part.close()
            wait_s = min(_FIRST_RETRY_S * 2 ** (seat.failures - 1), _LONGEST_RETRY_S)
            seat.is_open, seat.not_before_s = False, time.monotonic() + wait_s
            logger.warning("%s: %r; trying again in %.1f s", seat.part.name, error, wait_s)
            return None
        if call == seat.part.turn:
            seat.failures = 0
        return result

    def _longest_wait_s(self) -> float:
        due_s = min((seat.due_s() for seat in list(self._seats)), default=math.inf)
        return max(due_s - time.monotonic(), 0.0)

    def _let_go(self) -> None:
        """The connection is gone: who wanted to leave is free, the others wait for the next one."""
        for seat in list(self._seats):
            seat.start_anew()
            if seat.is_leaving:
                self._take_away(seat)

    def _pause(self, seconds: float) -> None:
        assert self._drain is not None
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0 and not any(seat.is_leaving for seat in self._seats):
            self._drain.wait_for_ring(left_s)

    def _take_away(self, seat: _Seat) -> None:
        with self._lock:
            if seat in self._seats:
                self._seats.remove(seat)
        seat.left.set()


def event_line(app: Any, line: BrokerLine) -> BrokerLine:
    """Return what a node's events leave by: a line of their own only if they go to another broker.

    Args:
        app: the application, of either library.
        line: the node's.
    """
    conf = app.conf
    if (conf.broker_write_url or conf.broker_url) == (conf.broker_read_url or conf.broker_url):
        return line
    return BrokerLine(lambda: app.connection_for_write(heartbeat=conf.broker_heartbeat))

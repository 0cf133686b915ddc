"""Signals: named hooks that anybody may connect receivers to."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable
from functools import wraps
from itertools import chain, repeat
from typing import Any, TypeVar, overload

Receiver = TypeVar("Receiver", bound=Callable[..., Any])

_CODE_TAKES_KEYWORDS = 0x08
_ANY_SENDER = 0


def _takes_keywords(receiver: Callable[..., Any]) -> bool:
    """Whether a receiver has ``**kwargs``; unknown kinds of callables get the benefit of the doubt."""
    function = receiver
    if not hasattr(function, "__code__") and not hasattr(function, "__func__"):
        function = getattr(function, "__call__", function)  # noqa: B004 - the method itself is wanted
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    return code is None or bool(code.co_flags & _CODE_TAKES_KEYWORDS)


def _identity(target: Any) -> Hashable:
    """A key that is equal for the same function, for the same method of the same object, for equal texts."""
    if isinstance(target, (str, bytes)):
        return target
    if hasattr(target, "__func__"):
        return id(target.__self__), id(target.__func__)
    return _ANY_SENDER if target is None else id(target)


def _persistent(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Return a receiver that calls another one until it succeeds, waiting 2, 4, ... 30 seconds in between."""

    @wraps(receiver)
    def call(**named: Any) -> Any:
        waits_s = chain(range(2, 30, 2), repeat(30))
        while True:
            try:
                return receiver(**named)
            except Exception:
                wait_s = next(waits_s)
                # Not at the top: a client may never need it.
                import logging

                logging.getLogger(__name__).exception(
                    "Could not process signal receiver %r. Retrying in %s seconds...", receiver, wait_s
                )
                time.sleep(wait_s)

    return call


class Signal:
    """A named hook.

    ``receivers`` is what the publishing code and the worker test before they do any work for a signal: it is empty
    when nobody listens, and always the same list.
    """

    def __init__(self, name: str, providing_args: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.providing_args = providing_args
        #: ((receiver key, sender key), receiver or weak reference to it), in the order of connection.
        self.receivers: list[tuple[tuple[Hashable, Hashable], Any]] = []
        self._lock = threading.Lock()

    @overload
    def connect(
        self,
        receiver: Receiver,
        /,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
        retry: bool = False,
    ) -> Receiver: ...
    @overload
    def connect(
        self, /, *, sender: Any = None, weak: bool = True, dispatch_uid: Hashable | None = None, retry: bool = False
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(
        self,
        receiver: Any = None,
        /,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
        retry: bool = False,
    ) -> Any:
        """Connect a receiver; works as a plain call and as a decorator with or without arguments.

        Args:
            receiver: called as ``receiver(signal=..., sender=..., **named)``.
            sender: only signals of this sender are received; None for all.
            weak: keep no strong reference to the receiver.
            dispatch_uid: a receiver is not connected twice under the same id.
            retry: call the receiver again, 2 to 30 seconds later, until it raises nothing; it is then held strongly.

        Raises:
            ValueError: the receiver does not take arbitrary keyword arguments.
        """
        if receiver is None:
            return lambda target: self.connect(target, sender=sender, weak=weak, dispatch_uid=dispatch_uid, retry=retry)
        if not callable(receiver):
            raise TypeError("Signal receivers must be callable")
        if not _takes_keywords(receiver):
            raise ValueError("Signal receiver must accept keyword arguments.")
        key = (_identity(dispatch_uid if dispatch_uid is not None else receiver), _identity(sender))
        if retry:
            held: Any = _persistent(receiver)
        else:
            held = self._reference(receiver) if weak else receiver
        with self._lock:
            if all(known != key for known, _ in self.receivers):
                self.receivers.append((key, held))
        return receiver

    def disconnect(self, receiver: Any = None, sender: Any = None, dispatch_uid: Hashable | None = None) -> bool:
        """Disconnect a receiver; returns whether it was connected."""
        key = (_identity(dispatch_uid if dispatch_uid is not None else receiver), _identity(sender))
        with self._lock:
            kept = [entry for entry in self.receivers if entry[0] != key]
            found = len(kept) != len(self.receivers)
            self.receivers[:] = kept
        return found

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether a signal of this sender would reach anybody."""
        return bool(self.receivers) and bool(self._live_receivers(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call every receiver; an exception of one is logged and stands in for its answer."""
        if not self.receivers:
            return []
        responses: list[tuple[Callable[..., Any], Any]] = []
        for receiver in self._live_receivers(sender):
            try:
                response = receiver(signal=self, sender=sender, **named)
            except Exception as error:
                # Not at the top: a client may never need it.
                import logging

                logging.getLogger(__name__).exception("Signal handler %r raised: %r", receiver, error)
                response = error
            responses.append((receiver, response))
        return responses

    send_robust = send

    def _reference(self, receiver: Any) -> Any:
        if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
            return weakref.WeakMethod(receiver, self._forget)
        return weakref.ref(receiver, self._forget)

    def _forget(self, reference: Any) -> None:
        """Drop a dead receiver. No lock, since the collector may call this while this very thread holds it; at worst
        a dead entry stays, and is skipped."""
        self.receivers[:] = [entry for entry in self.receivers if entry[1] is not reference]

    def _live_receivers(self, sender: Any) -> list[Callable[..., Any]]:
        wanted = _identity(sender)
        found: list[Callable[..., Any]] = []
        for (_, sender_key), held in tuple(self.receivers):
            if sender_key in (_ANY_SENDER, wanted):
                receiver = held() if isinstance(held, weakref.ReferenceType) else held
                if receiver is not None:
                    found.append(receiver)
        return found

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={set(self.providing_args)!r}>"

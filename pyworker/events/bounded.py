"""A mapping that forgets what was not used for the longest time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class RecentlyUsed(MutableMapping[Key, Value], Generic[Key, Value]):
    """At most ``limit`` entries; reading one counts as using it. May be read while another thread writes.

    Args:
        limit: how many are kept, all if not given.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        #: The entries, oldest first, for reading without using.
        self.data: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.RLock()

    def __getitem__(self, key: Key) -> Value:
        with self._lock:
            value = self.data[key]
            self.data.move_to_end(key)
            return value

    def __setitem__(self, key: Key, value: Value) -> None:
        with self._lock:
            if self.limit and key not in self.data:
                while len(self.data) >= self.limit:
                    self.data.popitem(last=False)
            self.data[key] = value

    def __delitem__(self, key: Key) -> None:
        with self._lock:
            del self.data[key]

    def __iter__(self) -> Iterator[Key]:
        with self._lock:
            return iter(list(self.data))

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def items(self) -> Any:
        """The entries of this moment; looking at them is no use."""
        with self._lock:
            return list(self.data.items())

    def values(self) -> Any:
        """The values of this moment."""
        with self._lock:
            return list(self.data.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.data.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

"""Task states: the strings that are stored, and the sets that code asks about."""

from __future__ import annotations

from typing import Final

#: Not known, or not started yet.
PENDING: Final = "PENDING"
#: Taken by a worker (only used in events).
RECEIVED: Final = "RECEIVED"
#: Being run (stored with ``track_started``).
STARTED: Final = "STARTED"
#: Finished, the result is stored.
SUCCESS: Final = "SUCCESS"
#: Raised an exception.
FAILURE: Final = "FAILURE"
#: Revoked or expired.
REVOKED: Final = "REVOKED"
#: Refused by a worker (only used in events).
REJECTED: Final = "REJECTED"
#: Failed and sent again.
RETRY: Final = "RETRY"
#: Ignored by its own wish (only used in events).
IGNORED: Final = "IGNORED"

#: States in which a result is there.
READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
#: States in which a result is still to come.
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: States whose result is an exception.
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
#: States whose exception :meth:`AsyncResult.get` raises.
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})

ALL_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

#: From the most to the least final; ``None`` stands for a state of the user's own.
PRECEDENCE: Final[tuple[str | None, ...]] = (
    SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING,
)  # fmt: skip

#: The rank of each state.
PRECEDENCE_LOOKUP: Final[dict[str | None, int]] = {name: index for index, name in enumerate(PRECEDENCE)}
#: The rank of states of the user's own.
NONE_PRECEDENCE: Final = PRECEDENCE_LOOKUP[None]


def precedence(name: str) -> int:
    """Return the rank of a state: the lower, the more final."""
    return PRECEDENCE_LOOKUP.get(name, NONE_PRECEDENCE)


class state(str):
    """A state that compares by how final it is: ``state("PENDING") < state("SUCCESS")``."""

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)

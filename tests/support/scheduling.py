"""How pytest-xdist deals the tests out: those that share a worker or a broker go to one process."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from support.kinds import CONTROLS, KINDS, PLACES
from support.transports import TRANSPORTS

_LONGEST_FIRST = sorted([*KINDS, *CONTROLS, *PLACES], key=len, reverse=True)
_TRANSPORTS = frozenset(transport.name for transport in TRANSPORTS)


class SharedWorkerScheduling(LoadScopeScheduling):
    """Scope is module and kind of worker, broker or transport of the conformance suite."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, rest = nodeid.partition("::")
        parameters = rest.partition("[")[2]
        kind = next((name for name in _LONGEST_FIRST if name in parameters), "")
        if (whole := parameters.partition("]")[0]) in _TRANSPORTS:
            kind = whole
        return f"{module}[{kind}]"

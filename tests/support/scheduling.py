"""How pytest-xdist deals the tests out: those that share a worker or a broker go to one process."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from support.kinds import CONTROLS, KINDS, PLACES

_LONGEST_FIRST = sorted([*KINDS, *CONTROLS, *PLACES], key=len, reverse=True)


class SharedWorkerScheduling(LoadScopeScheduling):
    """Scope is module and kind of worker or broker."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, rest = nodeid.partition("::")
        parameters = rest.partition("[")[2]
        kind = next((name for name in _LONGEST_FIRST if name in parameters), "")
        return f"{module}[{kind}]"

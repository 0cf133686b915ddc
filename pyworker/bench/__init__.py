"""``pyworker bench``: measures a worker on a broker and checks every single result.

Nothing here is imported by the worker or the library; the command line is the only user. The layers, downwards:
``run`` (which subject, how many rounds) -> ``session`` (one subject measured once) -> ``measure_*`` (one figure
each) -> ``peers`` (how to drive one task library) -> ``redis_server``, ``delay_proxy``, ``processes``, ``tally``.
"""

from __future__ import annotations

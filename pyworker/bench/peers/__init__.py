"""One module per task library that can be measured; ``registry`` finds them by name.

A peer's library is imported by its own module only, when that peer is asked for, so that ``pyworker bench`` runs
with none of them installed. These modules drive other programs; the worker and our own library never import them.
"""

from __future__ import annotations

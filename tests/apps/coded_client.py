"""A producer process of the application ``coded``: its arguments are queues; it prints what came back, as JSON.

A queue that begins with ``-`` is sent to without waiting. A process of its own: signing holds for a whole process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import coded

made = coded.make(
    importlib.import_module(os.environ["TEST_LIBRARY"]),
    os.environ["CLIENT_BROKER_URL"],
    os.environ["CLIENT_RESULT_BACKEND"],
)
sent = {}
for name in sys.argv[1:]:
    result = made.echo.apply_async((1, "täxt"), {"from": os.environ["TEST_LIBRARY"]}, queue=name.lstrip("-"))
    if not name.startswith("-"):
        sent[name] = result
print(json.dumps({name: result.get(timeout=60) for name, result in sent.items()}))

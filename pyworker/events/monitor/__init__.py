"""The terminal monitor of ``pyworker events``; needs textual (``pip install 'pyworker[tui]'``)."""

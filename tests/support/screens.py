"""A terminal application's screen as text, from the picture that it takes of itself."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

_TEXT = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"[^>]*>(.*?)</text>')


def screen_text(app: App[None]) -> str:
    """Return what the screen shows, line by line."""
    pieces = [
        (float(x), float(y), float(length), html.unescape(text).replace("\xa0", " "))
        for x, y, length, text in _TEXT.findall(app.export_screenshot())
    ]
    if not pieces:
        # Nothing was drawn yet.
        return ""
    cell = min(length / len(text) for _, _, length, text in pieces if text)
    lines: dict[float, dict[int, str]] = {}
    for x, y, _, text in pieces:
        lines.setdefault(y, {})[round(x / cell)] = text
    return "\n".join(_line(parts) for _, parts in sorted(lines.items()))


def _line(parts: dict[int, str]) -> str:
    line = ""
    for column, text in sorted(parts.items()):
        line = line.ljust(column) + text
    return line.rstrip()

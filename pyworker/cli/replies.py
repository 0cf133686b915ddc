"""Replies of workers as text for people, line for line as ``celery`` shows them."""

from __future__ import annotations

import json
from pprint import pformat
from typing import Any

from pygments import highlight
from pygments.formatters import Terminal256Formatter
from pygments.lexers import PythonLexer


def pretty(value: Any, *, is_colourful: bool = False) -> tuple[str, str]:
    """``OK`` or ``ERROR``, and the reply's content as text, mappings in colours if wanted."""
    if isinstance(value, list):
        return "OK", "\n".join(f"* {item}" for item in value) if value else "- empty -"
    if isinstance(value, dict):
        if "ok" in value:
            return "OK", indent(pretty(value["ok"], is_colourful=is_colourful)[1])
        if "error" in value:
            return "ERROR", indent(pretty(value["error"], is_colourful=is_colourful)[1])
        text = json.dumps(value, sort_keys=True, indent=4)
        return "OK", highlight(text, PythonLexer(), Terminal256Formatter()) if is_colourful else text
    return "OK", value if isinstance(value, str) else pformat(value)


def indent(text: str) -> str:
    """Move every line four places to the right."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

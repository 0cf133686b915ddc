"""A bar chart as SVG, by hand: no plotting library for one picture."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BAR_HEIGHT, _GAP, _LEFT, _WIDTH, _RIGHT = 16, 14, 150, 480, 90
_COLOURS = ("#1a6", "#888", "#c73", "#37b", "#a5a")


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Return grouped horizontal bars on a logarithmic scale; the bars of a group carry their names."""
    values = [value for _name, bars in groups for _label, value in bars]
    low = 10 ** math.floor(math.log10(min(values))) if values else 1.0
    high = 10 ** math.ceil(math.log10(max(values))) if values else 10.0
    span = max(math.log10(high) - math.log10(low), 1.0)
    names: list[str] = []
    body: list[str] = []
    y = 40
    for group, bars in groups:
        body.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end" font-weight="bold">{escape(group)}</text>')
        for label, value in bars:
            if label not in names:
                names.append(label)
            colour = _COLOURS[names.index(label) % len(_COLOURS)]
            length = (math.log10(value) - math.log10(low)) / span * _WIDTH
            body.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR_HEIGHT - 2}" fill="{colour}"/>'
                f'<text x="{_LEFT + length + 4:.1f}" y="{y + 12}">{value:,.0f} {escape(label)}</text>'
            )
            y += _BAR_HEIGHT
        y += _GAP
    ticks = ""
    for step in range(int(span) + 1):
        x = _LEFT + step / span * _WIDTH
        ticks += (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="32" y2="{y - _GAP}" stroke="#ddd"/>'
            f'<text x="{x:.1f}" y="28" text-anchor="middle" fill="#666">{low * 10**step:,.0f}</text>'
        )
    width = _LEFT + _WIDTH + _RIGHT + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{_LEFT}" y="14" font-size="13">{escape(title)}</text>'
        f"{ticks}{''.join(body)}</svg>\n"
    )

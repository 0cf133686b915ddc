"""Compares wheels with ``scripts/wheel_contents``, with the tree, and with the tag that their names promise.

Run as ``python scripts/check_wheel_contents.py WHEEL...`` from the root of the tree.
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

_RULES = Path(__file__).with_name("wheel_contents")
#: Rust, Cython and their debugging symbols: a wheel that outgrows this was not stripped.
_LARGEST_WHEEL_BYTES = 8 << 20


def main(wheels: list[str]) -> int:
    """Check each wheel and print what is wrong with it."""
    problems = [f"{Path(wheel).name}: {problem}" for wheel in wheels for problem in problems_of(Path(wheel))]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return bool(problems)


def problems_of(wheel: Path) -> list[str]:
    """Return what is missing from a wheel, and what is there that should not be."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        metadata = next(archive.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL"))
    rules = [line for line in _RULES.read_text().splitlines() if line and not line.startswith("#")]
    expressions = {rule: _expression(rule) for rule in rules}
    found = [f"nothing matches {rule}" for rule, each in expressions.items() if not any(map(each.match, names))]
    found += [f"{name} does not belong here" for name in names if not any(e.match(name) for e in expressions.values())]
    tree = Path(__file__).parent.parent
    sources = {
        path.relative_to(tree).as_posix()
        for kind in ("py", "pyi", "lua")
        for path in tree.glob(f"pyworker/**/*.{kind}")
    }
    found += [f"{name} is missing" for name in sorted(sources - set(names))]
    if wheel.stat().st_size > _LARGEST_WHEEL_BYTES:
        found.append(f"{wheel.stat().st_size} bytes; was it stripped?")
    tags = {line.removeprefix("Tag: ") for line in metadata.splitlines() if line.startswith("Tag: ")}
    python, abi, platforms = wheel.stem.split("-")[-3:]
    if {f"{python}-{abi}-{platform}" for platform in platforms.split(".")} != tags:
        found.append(f"its name and its tags {sorted(tags)} differ")
    modules = [name for name in names if name.endswith(".so")]
    if len(modules) != 1 or f"cpython-{python.removeprefix('cp')}" not in modules[0]:
        found.append(f"one extension for {python} was expected, not {modules}")
    return found


def _expression(rule: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", rule)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts) + r"\Z")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m pyworker.bench``: the same as ``pyworker bench``."""

from __future__ import annotations

from pyworker.cli.bench import bench

if __name__ == "__main__":
    bench(prog_name="pyworker bench")

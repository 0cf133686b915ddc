"""Control group quotas, from copies of the files that Linux shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyworker.worker.cpu_budget import cgroup_cpu_quota, usable_cpus

if TYPE_CHECKING:
    from pathlib import Path


def quota(tmp_path: Path, own: str, files: dict[str, str]) -> float | None:
    (tmp_path / "cgroup").write_text(own)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cgroup_cpu_quota(tmp_path / "root", tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 1.0),
        (
            "4:cpu,cpuacct:/a\n1:memory:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
    ],
)
def test_quota_is_the_smallest_on_the_way_up(
    tmp_path: Path, own: str, files: dict[str, str], expected: float | None
) -> None:
    assert quota(tmp_path, own, files) == expected


def test_there_is_always_a_processor() -> None:
    assert usable_cpus() >= 1

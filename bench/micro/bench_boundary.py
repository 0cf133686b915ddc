"""What one crossing of the Python boundary costs: envelopes and compression as Python calls them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyworker import _native

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_MESSAGE = (Path(__file__).parent.parent.parent / "native/examples/message.json").read_bytes()


def bench_build_envelope(benchmark: BenchmarkFixture) -> None:
    envelope = benchmark(
        _native.build_envelope,
        b"[[2, 3], {}, {}]",
        b'{"task": "proj.add"}',
        b'{"priority": 0}',
        "application/json",
        "utf-8",
    )
    assert b"application/json" in envelope


@pytest.mark.parametrize("codec", ["zlib", "gzip", "zstd", "brotli"])
def bench_compress(benchmark: BenchmarkFixture, codec: str) -> None:
    packed, content_type = benchmark(_native.compress, codec, _MESSAGE)
    assert _native.decompress(content_type, packed, len(_MESSAGE)) == _MESSAGE

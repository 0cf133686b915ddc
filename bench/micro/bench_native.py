"""Frames, envelopes, codecs, ETA heap, ledger and pool link: the engine's inner operations, without Python.

Each round runs an operation ``count`` times in the Rust program ``native/examples/microbench.rs``, which checks its
outcome; divide the times by ``count`` (``extra_info``) for one operation. The pipe to the program costs about 20 us
a round, hence the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

_OPERATIONS = {
    "resp-decode": 20_000,
    "resp-encode": 100_000,
    "envelope-parse": 20_000,
    "envelope-build": 20_000,
    "eta": 200_000,
    "ledger": 1_000_000,
    "link": 20_000,
}
_CODECS = {"zlib": 200, "gzip": 200, "bzip2": 100, "lzma": 20, "xz": 20, "brotli": 50, "zstd": 1000}


@pytest.mark.parametrize("name", _OPERATIONS)
def bench_operation(benchmark: BenchmarkFixture, native: Callable[[str, int], None], name: str) -> None:
    count = _OPERATIONS[name]
    benchmark.extra_info["count"] = count
    benchmark.pedantic(native, args=(name, count), rounds=10, warmup_rounds=1)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("codec", _CODECS)
def bench_compression(benchmark: BenchmarkFixture, native: Callable[[str, int], None], codec: str) -> None:
    """Compress and decompress 9 KB of messages."""
    count = _CODECS[codec]
    benchmark.extra_info["count"] = count
    benchmark.pedantic(native, args=(f"compress:{codec}", count), rounds=10, warmup_rounds=1)  # type: ignore[no-untyped-call]

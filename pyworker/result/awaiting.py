"""Waiting for results in coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pyworker import states
from pyworker.backends.base import AsyncBackend, Meta
from pyworker.exceptions import TimeoutError
from pyworker.result.result_set import by_store

_CHECK_S = 1.0


async def learn_all(
    results: Sequence[Any],
    timeout_s: float | None,
    check: Callable[[], Any] | None,
    is_failure_enough: bool = False,
) -> None:
    """Wait until the tasks of these results are done, and let the results know.

    Args:
        results: results that are not known to be done.
        timeout_s: seconds to wait; None for as long as it takes.
        check: called about once a second in a thread; what it raises ends the wait.
        is_failure_enough: return at the first failure.

    Raises:
        TimeoutError: some are not done in time.
        OperationalError: a store is gone.
    """
    waits = [asyncio.ensure_future(_learn(results, is_failure_enough))]
    if check is not None:
        waits.append(asyncio.ensure_future(_check_again_and_again(check)))
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError("The operation timed out.")
        for each in done:
            each.result()
    finally:
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _learn(results: Sequence[Any], is_failure_enough: bool) -> None:
    by_id: dict[str, list[Any]] = {}
    for result in results:
        by_id.setdefault(result.id, []).append(result)
    failed = asyncio.Event()

    def learn(task_id: str, meta: Meta) -> None:
        for result in by_id[task_id]:
            result.learn(meta)
        if meta["status"] in states.PROPAGATE_STATES:
            failed.set()

    waits = [
        asyncio.ensure_future(_wait(store, [result.id for result in asked], learn))
        for store, asked in by_store(same[0] for same in by_id.values())
    ]
    every = asyncio.gather(*waits)
    first_failure = asyncio.ensure_future(failed.wait()) if is_failure_enough else None
    try:
        ends: list[asyncio.Future[Any]] = [every] if first_failure is None else [every, first_failure]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if every in done:
            every.result()
    finally:
        for each in (*waits, *(() if first_failure is None else (first_failure,))):
            each.cancel()
        await asyncio.gather(every, *(() if first_failure is None else (first_failure,)), return_exceptions=True)


async def _wait(store: Any, ids: list[str], learn: Callable[[str, Meta], None]) -> None:
    if isinstance(store, AsyncBackend):
        await store.await_for(ids, learn)
        return

    def wait_here() -> list[tuple[str, Meta]]:
        return list(store.wait_for(ids, timeout_s=None))

    # A store that cannot be awaited keeps a thread of its own busy; a cancelled wait leaves it to its end.
    for task_id, meta in await asyncio.to_thread(wait_here):
        learn(task_id, meta)


async def _check_again_and_again(check: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(_CHECK_S)
        await asyncio.to_thread(check)

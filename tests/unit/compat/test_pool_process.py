"""A child looks like a process of Celery's pool, and what tools put around that pool's loop and exit is called."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

import billiard.pool
import billiard.process
import billiard.util
import celery.concurrency.prefork
import pytest
from celery import signals
from celery.utils.log import current_process_index

from pyworker.compat.celery.pool_process import become_pool_process, leave_pool_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def in_child(body: Callable[[], None]) -> None:
    """Run in a forked process; fails if it raises or ends the process itself."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:
            logging.exception("in the forked process")
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_children_have_the_names_and_indexes_of_pool_processes() -> None:
    def body() -> None:
        become_pool_process(2)
        process = billiard.process.current_process()
        assert (process.name, process.index, process.daemon) == ("ForkPoolWorker-3", 2, True)
        assert current_process_index() == 3

    in_child(body)


def test_what_waits_for_a_fork_is_run() -> None:
    class Resource:
        forks = 0

        def on_fork(self) -> None:
            self.forks += 1

    resource = Resource()
    billiard.util.register_after_fork(resource, Resource.on_fork)

    def body() -> None:
        become_pool_process(0)
        assert resource.forks == 1

    in_child(body)


@pytest.fixture
def goodbyes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What ``worker_process_shutdown`` was sent with."""
    seen: list[Any] = []

    def receive(sender: str, pid: int, exitcode: int, **_: Any) -> None:
        seen.append(("shutdown", sender, pid, exitcode))

    monkeypatch.setattr(celery.concurrency.prefork, "_process_hostname", "worker@host", raising=False)
    signals.worker_process_shutdown.connect(receive)
    yield seen
    signals.worker_process_shutdown.disconnect(receive)


def test_goodbye_is_said_once(goodbyes: list[Any]) -> None:
    leave_pool_process(12, 155)
    assert [each[2:] for each in goodbyes] == [(12, 155)]


def test_wrapped_loop_and_exit_are_called_in_billiards_order(
    goodbyes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrapped(name: str) -> Any:
        function = getattr(billiard.pool.Worker, name)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            finally:
                goodbyes.append(name)

        return wrapper

    for name in ("workloop", "_do_exit"):
        monkeypatch.setattr(billiard.pool.Worker, name, wrapped(name))
    leave_pool_process(12, 0)
    assert [each if isinstance(each, str) else each[0] for each in goodbyes] == ["workloop", "shutdown", "_do_exit"]

"""Exceptions come back from results only if they are exception classes, wherever a result is read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery
import pytest
from celery.backends.base import Backend
from celery.exceptions import SecurityError as StockSecurityError
from kombu.exceptions import DecodeError

import pyworker
from pyworker.backends import stored_exceptions
from pyworker.backends.chords import ChordParts
from pyworker.backends.sqlite_chords import SqliteChordParts
from pyworker.backends.stored_exceptions import exception_from_stored
from pyworker.exceptions import SecurityError
from support import stored_exceptions_corpus as corpus
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYLOAD = ["touch forged", 1]


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    """Nothing of the corpus may leave a mark, whatever the test does."""
    corpus.MARKS.clear()
    yield
    assert corpus.MARKS == []


def named(module: Any, name: Any, message: Any = PAYLOAD) -> dict[str, Any]:
    return {"exc_type": name, "exc_module": module, "exc_message": message}


@pytest.mark.parametrize(("module", "name"), corpus.REFUSED)
def test_what_is_no_exception_class_is_refused(module: str, name: str) -> None:
    with pytest.raises(SecurityError, match="Expected an exception class") as raised:
        exception_from_stored(named(module, name))
    assert f"{module}.{name}" in str(raised.value)


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("builtins", "object")])
def test_celery_refuses_the_same(module: str, name: str) -> None:
    stock = Backend(celery.Celery("stock", set_as_current=False))
    with pytest.raises(StockSecurityError, match="Expected an exception class"):
        stock.exception_to_python(named(module, name))


@pytest.mark.parametrize(("module", "name"), corpus.MADE_UP)
def test_what_is_not_there_is_made_up(module: str | None, name: str) -> None:
    made = exception_from_stored(named(module, name))
    assert isinstance(made, Exception)
    assert made.args == tuple(PAYLOAD)
    assert type(made).__mro__[1:] == (Exception, BaseException, object)


@pytest.mark.parametrize(("module", "name", "message", "expected"), corpus.REBUILT)
def test_exception_classes_come_back(module: str, name: str, message: Any, expected: str) -> None:
    assert repr(exception_from_stored(named(module, name, message))) == expected


@pytest.mark.parametrize("stored", corpus.WRONG, ids=repr)
def test_what_describes_no_exception_is_an_error(stored: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        exception_from_stored(stored)


@pytest.mark.parametrize("name", ["Replaced", "Picky"])
def test_a_class_that_makes_something_else_is_described(name: str) -> None:
    made = exception_from_stored(named(corpus.HERE, name))
    assert type(made) is Exception
    assert name in str(made)


def test_made_up_classes_are_not_kept_for_ever() -> None:
    first = type(exception_from_stored(named(None, "First")))
    assert type(exception_from_stored(named(None, "First"))) is first
    for number in range(2000):
        exception_from_stored(named(None, f"Error{number}"))
    assert stored_exceptions._made_up.cache_info().currsize <= 512


# -- everywhere a result is read


@pytest.fixture(params=["redis", "sqlite"])
def app(request: pytest.FixtureRequest, shared_server: RedisServer, tmp_path: Path) -> Iterator[pyworker.Celery]:
    if request.param == "redis":
        shared_server.client.flushall()
        url = shared_server.url_with("", 5)
    else:
        url = f"sqlite:///{tmp_path}/results.db"
    made = pyworker.Celery("forged", backend=url, set_as_current=False)
    yield made
    made.close()


def forge(app: pyworker.Celery, task_id: str, result: Any, status: Any = "FAILURE") -> None:
    backend: Any = app.backend
    meta = {"status": status, "result": result, "traceback": None, "children": [], "task_id": task_id}
    backend.write_result(backend.task_key(task_id).encode(), json.dumps(meta).encode(), False)


def test_reading_and_waiting_refuse(app: pyworker.Celery) -> None:
    forge(app, "forged", named("os", "system"))
    for read in (lambda: app.AsyncResult("forged").state, lambda: app.AsyncResult("forged").get(timeout=30)):
        with pytest.raises(SecurityError, match=r"os\.system"):
            read()


def test_waiting_in_a_coroutine_fails_for_the_forged_one_alone(app: pyworker.Celery) -> None:
    """Others that wait in the same loop get their results."""

    async def work() -> tuple[Any, Any]:
        good = asyncio.ensure_future(app.AsyncResult("good").aget(timeout=30))
        bad = asyncio.ensure_future(app.AsyncResult("bad").aget(timeout=30))
        await asyncio.sleep(0)
        forge(app, "bad", named("builtins", "eval"))
        bad_outcome = (await asyncio.gather(bad, return_exceptions=True))[0]
        app.backend.store_result("good", 7, "SUCCESS")
        return await good, bad_outcome

    good, bad = asyncio.run(work())
    assert good == 7
    assert isinstance(bad, SecurityError)


@pytest.mark.parametrize("payload", [b"5", b"[]", b"null", b'{"result": 1}', b'{"status": []}', b'"x"'])
def test_what_is_no_meta_is_an_error(app: pyworker.Celery, payload: bytes) -> None:
    backend: Any = app.backend
    write = backend._write if hasattr(backend, "_write") else lambda key, value: backend.write_result(key, value, False)
    write(backend.task_key("odd").encode(), payload)
    with pytest.raises(DecodeError, match="no result of a task"):
        app.AsyncResult("odd").get(timeout=30)


def test_parts_of_chords_refuse(app: pyworker.Celery) -> None:
    backend: Any = app.backend
    parts: Any = ChordParts(backend) if hasattr(backend, "client") else SqliteChordParts(backend)
    payload = backend.codec.encode([1, "part", "FAILURE", named("os", "system")])
    with pytest.raises(SecurityError, match=r"os\.system"):
        parts._value(payload)

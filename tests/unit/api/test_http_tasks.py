"""Tasks that are web addresses, against a real web server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pyworker import Celery
from pyworker.contrib.http import (
    URL,
    HttpDispatch,
    InvalidResponseError,
    RemoteExecuteError,
    UnknownStatusError,
    dispatch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Answers(BaseHTTPRequestHandler):
    """Multiplies, and everything that can go wrong."""

    never = threading.Event()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._answer(parts.path, parse_qs(parts.query))

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(urlsplit(self.path).path, parse_qs(form))

    def _answer(self, path: str, arguments: dict[str, list[str]]) -> None:
        status, body = 200, b""
        if path == "/multiply":
            product = 1
            for values in arguments.values():
                product *= int(values[0])
            body = json.dumps({"status": "success", "retval": product, "method": self.command}).encode()
        elif path == "/fail":
            body = b'{"status": "failure", "reason": "division by zero"}'
        elif path == "/other":
            body = b'{"status": "perhaps"}'
        elif path == "/text":
            body = b"<html>"
        elif path == "/list":
            body = b"[1]"
        elif path == "/gone":
            status = 410
        elif path == "/file":
            status = 302
        elif path == "/slow":
            self.never.wait(20)
            self.close_connection = True
            return
        self.send_response(status)
        if path == "/file":
            self.send_header("Location", "file:///etc/passwd")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the server is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Answers.never.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def app() -> Celery:
    """An app whose tasks run where they are sent."""
    return Celery("http", set_as_current=False, task_always_eager=True)


@pytest.mark.parametrize("method", ["get_async", "post_async"])
def test_an_address_is_asked_for_its_value(app: Celery, address: str, method: str) -> None:
    result = getattr(URL(f"{address}/multiply?z=2", app=app), method)(x=10, y=10)
    assert result.get() == (200 if method == "get_async" else 100)


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("/fail", RemoteExecuteError, "division by zero"),
        ("/other", UnknownStatusError, "perhaps"),
        ("/text", InvalidResponseError, "no JSON"),
        ("/list", InvalidResponseError, "no status"),
        ("/empty", InvalidResponseError, "Empty response"),
        ("/gone", InvalidResponseError, "HTTP 410"),
        ("/file", InvalidResponseError, "redirects to 'file:"),
    ],
)
def test_everything_else_is_an_error(app: Celery, address: str, path: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        URL(address + path, app=app).get_async().get()


def test_an_answer_has_its_time(address: str) -> None:
    with pytest.raises(TimeoutError):
        HttpDispatch(f"{address}/slow", "GET", {}, timeout_s=0.05).dispatch()


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(OSError, match="refused"):
        HttpDispatch("http://127.0.0.1:1/", "GET", {}).dispatch()


def test_only_the_web_is_asked() -> None:
    for url, method in (("file:///etc/passwd", "GET"), ("http://127.0.0.1/", "DELETE")):
        with pytest.raises(ValueError, match="no http or https|GET and POST"):
            HttpDispatch(url, method, {})


def test_every_app_has_the_task(app: Celery) -> None:
    assert dispatch.name in app.tasks

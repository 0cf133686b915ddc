"""Flower on a stage's application, as it runs in production: a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from support.ports import free_port
from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_QUIET_TAGS = frozenset(("script", "style", "svg", "head", "nav", "option"))
_VOID_TAGS = frozenset(("meta", "link", "input", "br", "hr", "img", "path"))


class Flower:
    """A running Flower.

    Args:
        broker, backend: URLs handed to the app through its environment.
        app: a module of ``tests/apps``.
    """

    def __init__(self, *, broker: str, backend: str | None = None, app: str = "tasks") -> None:
        self.port = free_port()
        self._app = app
        self._environment = worker_environment(
            broker=broker, backend=backend or broker, lane="producer", extra={"FLOWER_UNAUTHENTICATED_API": "true"}
        )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start, and return when it answers."""
        self._process = subprocess.Popen(
            [
                sys.executable, "-W", "ignore", "-m", "celery", "-A", self._app, "flower", f"--port={self.port}",
                "--address=127.0.0.1", "--inspect_timeout=8000",
            ],
            env=self._environment, cwd=APPS, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        eventually(self._answers, deadline_s=90, what="Flower answers")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            self._log.seek(0)
            raise RuntimeError(f"Flower ended: {self._log.read().decode()}")
        try:
            return self.get("healthcheck")[0] == 200
        except urllib.error.URLError:
            return False

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=20)
        self._log.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- asking

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        """GET a path; returns the status, and the answer as JSON or as text."""
        return self._ask("GET", path, query, None)

    def post(self, path: str, content: Any = None, **query: Any) -> tuple[int, Any]:
        """POST JSON to a path; returns the status, and the answer as JSON or as text."""
        return self._ask("POST", path, query, content)

    def _ask(self, method: str, path: str, query: dict[str, Any], content: Any) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}/{urllib.parse.quote(path)}?{urllib.parse.urlencode(query)}"
        data = json.dumps(content).encode() if content is not None else b"" if method == "POST" else None
        request = urllib.request.Request(url, method=method, data=data)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _decoded(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error)


def _decoded(answer: Any) -> Any:
    text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text


class _Reader(HTMLParser):
    """Collects the visible texts of a page: rows of tables and lists as rows, the rest line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[str]] = [[]]
        self._quiet: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID_TAGS:
            return
        hidden = any(name == "class" and {"visually-hidden", "d-none"} & set((value or "").split())
                     for name, value in attrs)  # fmt: skip
        if tag in _QUIET_TAGS or hidden or self._quiet:
            self._quiet.append(tag)
        elif tag in ("tr", "h1", "h2", "h3", "caption", "p", "figcaption") or (
            tag == "div" and any(name == "class" and "detail-row" in (value or "") for name, value in attrs)
        ):
            self.lines.append([])
        elif tag in ("td", "th", "dt", "dd") and self.lines[-1]:
            self.lines[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if self._quiet and tag not in _VOID_TAGS:
            self._quiet.pop()
        elif tag in ("h1", "h2", "h3", "caption", "p", "figcaption"):
            self.lines.append([])

    def handle_data(self, data: str) -> None:
        text = data.strip() if "\n" in data.strip() else " ".join(data.split())
        if not text or self._quiet:
            return
        if not self.lines[-1]:
            self.lines[-1].append(text)
        else:
            self.lines[-1][-1] = f"{self.lines[-1][-1]} {text}".strip()


def page_rows(html: str) -> list[list[str]]:
    """Return the visible texts of a page: a list of cells for each row, of one for each heading or other text."""
    reader = _Reader()
    reader.feed(html)
    return [line for line in reader.lines if any(line)]

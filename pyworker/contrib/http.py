"""Tasks that are web addresses: a worker asks the address and returns what it answers.

The answer is JSON: ``{"status": "success", "retval": ...}`` or ``{"status": "failure", "reason": "..."}``::

    from pyworker.contrib.http import URL

    URL("http://example.com/multiply").get_async(x=10, y=10).get()

The worker has to know the task: ``imports = ["pyworker.contrib.http"]`` or ``-I pyworker.contrib.http``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import HTTPErrorProcessor, Request, build_opener

from pyworker.app.sharing import shared_task
from pyworker.current import app_or_default

if TYPE_CHECKING:
    from pyworker.app.base import Celery
    from pyworker.result import AsyncResult

__all__ = ["URL", "HttpDispatch", "InvalidResponseError", "RemoteExecuteError", "UnknownStatusError", "dispatch"]

#: Seconds that an address has for its answer.
DEFAULT_TIMEOUT_S = 30.0
_SCHEMES = ("http", "https")
_MOST_BYTES = 64 * 1024 * 1024


class InvalidResponseError(Exception):
    """The address's answer is no answer of a task: no JSON object, no status, too long, or an HTTP error."""


class RemoteExecuteError(Exception):
    """The address says that its task failed; the text is its reason."""


class UnknownStatusError(InvalidResponseError):
    """The answer's status is neither ``success`` nor ``failure``."""


class HttpDispatch:
    """One request.

    Args:
        url: the address, of ``http`` or ``https``.
        method: ``GET`` or ``POST``.
        task_kwargs: arguments, sent as the query or as a form.
        timeout_s: seconds that connecting, and every wait for data, may take.

    Raises:
        ValueError: another scheme or method.
    """

    user_agent = "pyworker-http"

    def __init__(
        self, url: str, method: str, task_kwargs: Mapping[str, Any], timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        if urlsplit(url).scheme.lower() not in _SCHEMES:
            raise ValueError(f"{url!r} is no http or https address")
        if method.upper() not in ("GET", "POST"):
            raise ValueError(f"method {method!r}: GET and POST are known")
        self.url = url
        self.method = method.upper()
        self.task_kwargs = dict(task_kwargs)
        self.timeout_s = timeout_s

    def dispatch(self) -> Any:
        """Send the request and return the answer's value.

        Raises:
            InvalidResponseError: the answer cannot be understood.
            RemoteExecuteError: the address says that its task failed.
            OSError: there is no answer; ``TimeoutError`` if it did not come in time.
        """
        return _value_of(self._answer())

    def _answer(self) -> bytes:
        data = None
        url = self.url
        if self.method == "GET":
            url = with_arguments(url, self.task_kwargs)
        else:
            data = urlencode(self.task_kwargs, doseq=True).encode()
        request = Request(url, data=data, method=self.method, headers={"User-Agent": self.user_agent})
        try:
            with build_opener(_NoRedirectToOtherSchemes).open(request, timeout=self.timeout_s) as response:
                body: bytes = response.read(_MOST_BYTES + 1)
        except HTTPError as error:
            with error:
                raise InvalidResponseError(f"{self.url}: HTTP {error.code} {error.reason}") from None
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError(f"{self.url}: no answer within {self.timeout_s} s") from error
            raise
        if len(body) > _MOST_BYTES:
            raise InvalidResponseError(f"{self.url}: the answer is longer than {_MOST_BYTES} bytes")
        return body


class _NoRedirectToOtherSchemes(HTTPErrorProcessor):
    """urllib follows redirects to ftp:; an address that somebody else chose must not lead there."""

    def http_response(self, request: Any, response: Any) -> Any:
        """Refuse redirects that leave http and https."""
        location = response.headers.get("Location", "")
        scheme = urlsplit(location).scheme.lower()
        if 300 <= response.status < 400 and scheme and scheme not in _SCHEMES:
            response.close()
            raise InvalidResponseError(f"{request.full_url}: redirects to {location!r}")
        return super().http_response(request, response)

    https_response = http_response


def _value_of(body: bytes) -> Any:
    if not body:
        raise InvalidResponseError("Empty response")
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise InvalidResponseError(f"The answer is no JSON: {error}") from error
    if not isinstance(answer, dict) or "status" not in answer:
        raise InvalidResponseError(f"The answer has no status: {answer!r:.200}")
    if answer["status"] == "success":
        return answer.get("retval")
    if answer["status"] == "failure":
        raise RemoteExecuteError(answer.get("reason"))
    raise UnknownStatusError(str(answer["status"]))


def with_arguments(url: str, arguments: Mapping[str, Any]) -> str:
    """Return an address with arguments added to its query."""
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *arguments.items()], doseq=True)
    return urlunsplit(parts._replace(query=query))


@shared_task(name="celery.http_dispatch")
def dispatch(url: str, method: str = "GET", timeout_s: float | None = None, **arguments: Any) -> Any:
    """The task that asks an address; ``HttpDispatchTask`` of old."""
    return HttpDispatch(url, method, arguments, timeout_s or DEFAULT_TIMEOUT_S).dispatch()


#: Its name in Celery 3.
HttpDispatchTask = dispatch


class URL(str):
    """An address whose task can be sent.

    Args:
        url: the address.
        dispatcher: another task than :data:`dispatch`.
        app: the app that sends it, the current one if not given.
    """

    _dispatcher: Any
    _app: Celery | None

    def __new__(cls, url: str, dispatcher: Any = None, app: Celery | None = None) -> URL:
        made = super().__new__(cls, url)
        made._dispatcher, made._app = dispatcher, app
        return made

    def get_async(self, **arguments: Any) -> AsyncResult[Any]:
        """Send a task that asks the address by GET with these arguments."""
        return self._send("GET", arguments)

    def post_async(self, **arguments: Any) -> AsyncResult[Any]:
        """Send a task that asks the address by POST with these arguments."""
        return self._send("POST", arguments)

    def _send(self, method: str, arguments: dict[str, Any]) -> AsyncResult[Any]:
        task: Any = self._dispatcher or app_or_default(self._app).tasks[dispatch.name]
        sent: AsyncResult[Any] = task.delay(str(self), method, **arguments)
        return sent

"""Texts and values without the secrets that URLs and options carry: for logs, errors, banners and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What stands for a password, as in kombu's and Celery's texts.
MASK = "**"
#: What to say of a URL whose parts cannot be told from each other.
NOT_A_URL = "cannot be understood: special characters in a user or password must be quoted (%2F for /, %40 for @)"
#: A URL in a text. It ends at white space only: a password may hold any other character that was not quoted.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
#: Parameters of a URL and names of options that are nobody's business.
_SECRET = r"passw|passphrase|secret|token|access_key|account_key|api_key|sas_key"
_SECRET_PARAMETER = re.compile(rf"([?&][^=&?]*(?:{_SECRET})[^=&?]*=)[^&;]*", re.IGNORECASE)
_SECRET_OPTION = re.compile(_SECRET, re.IGNORECASE)
#: Files have no passwords; their paths may hold ``:`` and ``@``.
_WITHOUT_CREDENTIALS = frozenset({"sqlite", "filesystem", "file", "memory"})


def without_password(url: str, mask: str = MASK) -> str:
    """Return a URL, or several separated by ``;``, that can be shown.

    Args:
        url: the URL; a password that should have been quoted (``/``, ``@``) is hidden as well.
        mask: what stands for the password.
    """
    return ";".join(_one_without_password(each, mask) for each in url.split(";"))


def _one_without_password(url: str, mask: str) -> str:
    url = _SECRET_PARAMETER.sub(rf"\g<1>{mask}", url)
    head, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    if head.lower() in _WITHOUT_CREDENTIALS:
        return url
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    return f"{head}{separator}{user}{f':{mask}' if colon and password else ''}{at}{place}"


def after_credentials(place: str) -> str:
    """Return what was taken for a host or path, without what may be a password that was not quoted."""
    _, at, rest = place.rpartition("@")
    return f"{MASK}{at}{rest}" if at else place


def redacted(text: str) -> str:
    """Return a text with the passwords of the URLs in it hidden."""
    return _URL.sub(lambda found: without_password(found[0]), text) if "://" in text else text


def connection_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``kombu.Connection.info()`` says, without passwords.

    Args:
        info: its answer; alternate URLs, a socket's URL and transport options hold passwords as well.
    """
    return {name: _shown(name, value) for name, value in info.items() if name != "password"}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shown(str(key), member) for key, member in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_shown(name, member) for member in value)
    if value and _SECRET_OPTION.search(name):
        return MASK
    return without_password(value) if isinstance(value, str) and "://" in value else value

"""``broker_use_ssl``, ``redis_backend_use_ssl`` and ``ssl_*`` query parameters as TLS settings of the native side.

The names and their defaults are redis-py's, because it is what kombu and Celery's result backend hand them to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.redis_config import TlsSettings

#: What ``ssl_cert_reqs`` may be; the numbers are those of ``ssl.VerifyMode``. A client has no use for "optional":
#: a server always shows a certificate, and OpenSSL then checks it.
_VERIFIES = {
    None: False,
    0: False,
    1: True,
    2: True,
    "none": False,
    "optional": True,
    "required": True,
    "cert_none": False,
    "cert_optional": True,
    "cert_required": True,
}
_APPLIED = frozenset(
    {
        "ssl_cert_reqs",
        "ssl_check_hostname",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_ca_data",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_min_version",
    }
)
#: ``ssl.TLSVersion.TLSv1_3``.
_TLS_1_3 = 0x0304


def tls_settings(parameters: Mapping[str, Any], *, setting: str) -> TlsSettings:
    """Return the settings that redis-py's connection parameters mean.

    Args:
        parameters: the ``ssl_*`` parameters; files are named by paths and read when connecting.
        setting: where they come from, for errors.

    Raises:
        ImproperlyConfigured: a parameter is unknown, not plain data or has no such value; names it.
    """
    for name, value in parameters.items():
        if name not in _APPLIED and value:
            raise ImproperlyConfigured(
                f"{setting}: {name} is not supported; supported are {', '.join(sorted(_APPLIED))}"
            )
    verify = _verifies(parameters.get("ssl_cert_reqs", "required"), setting)
    named = parameters.get("ssl_check_hostname")
    return TlsSettings(
        verify=verify,
        check_hostname=verify and (_checks_by_default() if named is None else _flag(named)),
        ca_file=_path(parameters, "ssl_ca_certs", setting),
        ca_path=_path(parameters, "ssl_ca_path", setting),
        ca_data=_bytes(parameters.get("ssl_ca_data"), setting),
        cert_file=_path(parameters, "ssl_certfile", setting),
        key_file=_path(parameters, "ssl_keyfile", setting),
        only_tls13=_is_tls13(parameters.get("ssl_min_version"), setting),
    )


def redis_py_parameters(settings: TlsSettings) -> dict[str, Any]:
    """Return redis-py's connection parameters for the same settings."""
    parameters: dict[str, Any] = {
        "ssl_cert_reqs": "required" if settings.verify else "none",
        "ssl_check_hostname": settings.check_hostname,
        "ssl_ca_certs": settings.ca_file,
        "ssl_ca_path": settings.ca_path,
        "ssl_ca_data": settings.ca_data.decode() if settings.ca_data and b"-----" in settings.ca_data else None,
        "ssl_certfile": settings.cert_file,
        "ssl_keyfile": settings.key_file,
        "ssl_min_version": _TLS_1_3 if settings.only_tls13 else None,
    }
    if settings.ca_data and b"-----" not in settings.ca_data:
        parameters["ssl_ca_data"] = settings.ca_data
    return {name: value for name, value in parameters.items() if value is not None}


def _verifies(value: Any, setting: str) -> bool:
    key = value.lower() if isinstance(value, str) else value
    try:
        return _VERIFIES[key]
    except (KeyError, TypeError):
        raise ImproperlyConfigured(
            f"{setting}: ssl_cert_reqs must be required, optional or none (or the constant of ssl), not {value!r}"
        ) from None


def _checks_by_default() -> bool:
    """redis-py compares host names by default since 6.0."""
    return int(version("redis").partition(".")[0]) >= 6


def _path(parameters: Mapping[str, Any], name: str, setting: str) -> str | None:
    value = parameters.get(name)
    if not value:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise ImproperlyConfigured(f"{setting}: {name} must be a path, not {value!r}")
    return os.fspath(value)


def _bytes(value: Any, setting: str) -> bytes | None:
    if not value:
        return None
    if not isinstance(value, (str, bytes)):
        raise ImproperlyConfigured(f"{setting}: ssl_ca_data must be text or bytes, not {type(value).__name__}")
    return value.encode() if isinstance(value, str) else value


def _is_tls13(value: Any, setting: str) -> bool:
    if not value:
        return False
    try:
        return int(value) >= _TLS_1_3
    except (TypeError, ValueError):
        raise ImproperlyConfigured(f"{setting}: ssl_min_version must be a constant of ssl, not {value!r}") from None


def _flag(value: Any) -> bool:
    return value.lower() not in ("0", "false", "no", "n", "f", "off", "") if isinstance(value, str) else bool(value)

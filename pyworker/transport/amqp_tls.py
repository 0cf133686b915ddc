"""``broker_use_ssl`` for RabbitMQ as TLS settings of the native side.

The names, their defaults and what they imply are py-amqp's, because it is what kombu hands them to: without
``server_hostname`` the server's certificate is checked and its name is not.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.redis_config import TlsSettings

_PATHS = {"ca_certs": "ca_file", "certfile": "cert_file", "keyfile": "key_file"}
_CONTEXT_PATHS = {"cafile": "ca_file", "capath": "ca_path"}
#: What a client has no use for, or what goes without saying here.
_WITHOUT_EFFECT = frozenset({"do_handshake_on_connect", "suppress_ragged_eofs", "server_side"})
_SETTINGS = frozenset(
    {"cert_reqs", "server_hostname", "ssl_version", "tls_minimum_version", "context", *_PATHS, *_WITHOUT_EFFECT}
)
_CONTEXT_SETTINGS = frozenset({"cadata", "check_hostname", "purpose", *_CONTEXT_PATHS})
_VERSIONS = (None, ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT)


def amqp_tls(given: Any, *, setting: str = "broker_use_ssl") -> TlsSettings | None:
    """Return the settings that py-amqp's ``ssl`` parameter means; None is no TLS.

    Args:
        given: True, false, or a mapping of py-amqp's parameters; files are named by paths and read when connecting.
        setting: where they come from, for errors.

    Raises:
        ImproperlyConfigured: a parameter is unknown, not plain data or has no such value; names it.
    """
    if not given:
        return None
    options = dict(given) if isinstance(given, Mapping) else {}
    _refuse_unknown(options, _SETTINGS, setting)
    if options.get("server_side"):
        raise ImproperlyConfigured(f"{setting}: server_side makes no sense for a client")
    if options.get("ssl_version") not in _VERSIONS:
        raise ImproperlyConfigured(f"{setting}: ssl_version: only ssl.PROTOCOL_TLS_CLIENT is supported (TLS 1.2, 1.3)")
    if options.get("context"):
        return _by_context(dict(options["context"]), options, setting)
    verify = _verifies(options.get("cert_reqs"), setting)
    name = options.get("server_hostname")
    if name is not None and not verify:
        raise ImproperlyConfigured(f"{setting}: server_hostname cannot be checked while cert_reqs is CERT_NONE")
    return TlsSettings(
        verify=verify,
        # Its mere presence asks for the check: None stands for the host of the URL.
        check_hostname=verify and "server_hostname" in options,
        server_name=name,
        only_tls13=_is_tls13(options.get("tls_minimum_version"), setting),
        **_paths(options, _PATHS, setting),
    )


def _by_context(context: dict[str, Any], options: Mapping[str, Any], setting: str) -> TlsSettings:
    """Return the settings of ``context``: parameters of ``ssl.create_default_context``, which always verifies."""
    _refuse_unknown(context, _CONTEXT_SETTINGS, f"{setting}: context")
    beside = {name for name in options if options[name] is not None} - {"context", "server_hostname", *_WITHOUT_EFFECT}
    if beside:
        raise ImproperlyConfigured(f"{setting}: {', '.join(sorted(beside))} cannot stand beside context")
    data = context.get("cadata")
    return TlsSettings(
        check_hostname=bool(context.get("check_hostname")),
        server_name=options.get("server_hostname"),
        ca_data=data.encode() if isinstance(data, str) else data,
        **_paths(context, _CONTEXT_PATHS, setting),
    )


def _refuse_unknown(options: Mapping[str, Any], known: frozenset[str], setting: str) -> None:
    for name, value in options.items():
        if name not in known and value is not None:
            raise ImproperlyConfigured(f"{setting}: {name} is not supported; supported are {', '.join(sorted(known))}")


def _verifies(value: Any, setting: str) -> bool:
    try:
        return value is None or ssl.VerifyMode(value) is not ssl.CERT_NONE
    except ValueError:
        raise ImproperlyConfigured(f"{setting}: cert_reqs must be a constant of ssl, not {value!r}") from None


def _paths(options: Mapping[str, Any], names: Mapping[str, str], setting: str) -> dict[str, Any]:
    found = {}
    for name, field in names.items():
        value = options.get(name)
        if value and not isinstance(value, (str, os.PathLike)):
            raise ImproperlyConfigured(f"{setting}: {name} must be a path, not {value!r}")
        found[field] = os.fspath(value) if value else None
    return found


def _is_tls13(value: Any, setting: str) -> bool:
    if value is None:
        return False
    try:
        return int(value) >= ssl.TLSVersion.TLSv1_3
    except (TypeError, ValueError):
        raise ImproperlyConfigured(
            f"{setting}: tls_minimum_version must be a constant of ssl.TLSVersion, not {value!r}"
        ) from None

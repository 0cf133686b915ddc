"""The serializer ``auth``: what another serializer makes, signed. The format is Celery's.

The body is base64 of five parts with a separator between them: base64 of the signer's certificate id, base64 of the
signature, content type, content encoding and the data. What is signed are the data.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu.serialization import dumps, loads, registry

from pyworker.exceptions import SecurityError
from pyworker.security.certificate import Certificate, CertStore, FSCertStore
from pyworker.security.key import PrivateKey
from pyworker.security.utils import get_digest_algorithm, reraise_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SecureSerializer", "register_auth"]

DEFAULT_SEPARATOR = b"\x00\x01"
_PARTS = 5
_PICKLE = "application/x-python-serialize"


class _Signed(NamedTuple):
    signer: bytes
    signature: bytes
    content_type: str
    content_encoding: str
    body: bytes


class SecureSerializer:
    """Signs and verifies.

    Args:
        key: signs what is sent; None where nothing is.
        cert: the certificate of that key.
        cert_store: certificates of those whose messages are accepted; None where nothing is received.
        digest: name of the hash.
        serializer: the serializer inside.
        allowed: further serializers that may be inside of what is received. Content types are not signed, so that
            pickle is refused unless it is one of these.

    Raises:
        ImproperlyConfigured: there is no such hash.
    """

    def __init__(
        self,
        key: PrivateKey | None = None,
        cert: Certificate | None = None,
        cert_store: CertStore | None = None,
        digest: str = "sha256",
        serializer: str = "json",
        allowed: Iterable[str] = (),
    ) -> None:
        self._key = key
        self._cert = cert
        self._cert_store = cert_store
        self._digest = get_digest_algorithm(digest)
        self._serializer = serializer
        self._allows_pickle = not {"pickle", _PICKLE}.isdisjoint({serializer, *allowed})

    def serialize(self, data: Any) -> str:
        """Serialize and sign.

        Raises:
            SecurityError: it cannot be done; says why.
        """
        if self._key is None or self._cert is None:
            raise SecurityError("there is no key to sign with")
        with reraise_errors("Unable to serialize: {0!r}", (Exception,)):
            content_type, content_encoding, body = dumps(data, serializer=self._serializer)
            raw = body.encode() if isinstance(body, str) else bytes(body)
            parts = (
                b64encode(self._cert.get_id().encode()),
                b64encode(self._key.sign(raw, self._digest)),
                content_type.encode(),
                content_encoding.encode(),
                raw,
            )
            return b64encode(DEFAULT_SEPARATOR.join(parts)).decode()

    def deserialize(self, data: str | bytes) -> Any:
        """Verify and deserialize; nothing is deserialized that was not signed by somebody known.

        Raises:
            SecurityError: it is unsigned, damaged, or signed by nobody known.
        """
        if self._cert_store is None:
            raise SecurityError("there are no certificates to verify with")
        with reraise_errors("Unable to deserialize: {0!r}", (Exception,)):
            signed = _unpacked(data)
            self._cert_store[signed.signer].verify(signed.body, signed.signature, self._digest)
            if signed.content_type == _PICKLE and not self._allows_pickle:
                raise SecurityError("a signed pickle is refused: name pickle among the allowed serializers")
        return loads(signed.body, signed.content_type, signed.content_encoding, force=True)


def _unpacked(data: str | bytes) -> _Signed:
    """Take a signed body apart.

    Raises:
        SecurityError: it is none.
    """
    try:
        parts = b64decode(data).split(DEFAULT_SEPARATOR, _PARTS - 1)
        signer, signature, content_type, content_encoding, body = parts
        return _Signed(b64decode(signer), b64decode(signature), content_type.decode(), content_encoding.decode(), body)
    except (Base64Error, ValueError) as error:
        raise SecurityError(f"not a signed message: {error}") from error


def register_auth(
    key: str | None = None,
    key_password: bytes | str | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str = "sha256",
    serializer: str = "json",
    allowed: Iterable[str] = (),
) -> None:
    """Register ``auth`` with kombu.

    Args:
        key: text of the private key.
        key_password: its password.
        cert: text of the certificate.
        store: directory or pattern of the certificates of those whose messages are accepted.
        digest, serializer, allowed: see :class:`SecureSerializer`.

    Raises:
        ImproperlyConfigured: there is no such hash.
        SecurityError: a key or certificate cannot be used.
    """
    signing = SecureSerializer(
        PrivateKey(key, key_password) if key else None,
        Certificate(cert) if cert else None,
        FSCertStore(store) if store else None,
        digest,
        serializer,
        allowed,
    )
    registry.register(
        "auth", signing.serialize, signing.deserialize, content_type="application/data", content_encoding="utf-8"
    )

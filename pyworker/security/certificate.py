"""Certificates that verify messages, and where they are kept."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from pyworker.exceptions import SecurityError
from pyworker.security.utils import padding_for, reraise_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = ["CertStore", "Certificate", "FSCertStore"]


class Certificate:
    """An X.509 certificate with an RSA key.

    Args:
        cert: the PEM text.

    Raises:
        SecurityError: it cannot be read, or its key is no RSA key.
    """

    def __init__(self, cert: str | bytes) -> None:
        with reraise_errors("Invalid certificate: {0!r}", (ValueError,)):
            self._cert = load_pem_x509_certificate(cert.encode() if isinstance(cert, str) else cert)
            found = self._cert.public_key()
            if not isinstance(found, RSAPublicKey):
                raise ValueError("only certificates of RSA keys are supported")
        self._key = found

    def has_expired(self) -> bool:
        """Whether its time is over."""
        return datetime.now(timezone.utc) >= self._cert.not_valid_after_utc

    def get_pubkey(self) -> RSAPublicKey:
        """Return the public key."""
        return self._key

    def get_serial_number(self) -> int:
        """Return the serial number."""
        return self._cert.serial_number

    def get_issuer(self) -> str:
        """Return who issued it, as text."""
        return " ".join(str(attribute.value) for attribute in self._cert.issuer)

    def get_id(self) -> str:
        """Return what stands for it in messages: issuer and serial number."""
        return f"{self.get_issuer()} {self.get_serial_number()}"

    def verify(self, data: str | bytes, signature: bytes, digest: HashAlgorithm) -> None:
        """Verify a signature.

        Raises:
            SecurityError: the signature is not of these data and this key, or the certificate has expired.
        """
        if self.has_expired():
            raise SecurityError(f"Expired certificate: {self.get_id()!r}")
        with reraise_errors("Bad signature: {0!r}"):
            self._key.verify(signature, data.encode() if isinstance(data, str) else data, padding_for(digest), digest)


class CertStore:
    """Certificates by their ids."""

    def __init__(self) -> None:
        self._certs: dict[str, Certificate] = {}

    def itercerts(self) -> Iterator[Certificate]:
        """Yield all of them."""
        yield from self._certs.values()

    def __getitem__(self, id: str | bytes) -> Certificate:
        """Return the certificate of an id.

        Raises:
            SecurityError: there is none.
        """
        try:
            return self._certs[id.decode() if isinstance(id, bytes) else id]
        except (KeyError, UnicodeDecodeError):
            raise SecurityError(f"Unknown certificate: {id!r}") from None

    def add_cert(self, cert: Certificate) -> None:
        """Add a certificate.

        Raises:
            SecurityError: one of that id is there already.
        """
        identity = cert.get_id()
        if identity in self._certs:
            raise SecurityError(f"Duplicate certificate: {identity!r}")
        self._certs[identity] = cert


class FSCertStore(CertStore):
    """The certificates in files.

    Args:
        path: a directory, or a pattern of file names.

    Raises:
        SecurityError: a file is no certificate, one has expired, or two are the same; names the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        pattern = os.path.join(glob.escape(path), "*") if os.path.isdir(path) else path
        for name in sorted(glob.glob(pattern)):
            try:
                cert = Certificate(Path(name).read_bytes())
                if cert.has_expired():
                    raise SecurityError(f"Expired certificate: {cert.get_id()!r}")
                self.add_cert(cert)
            except (OSError, SecurityError) as error:
                raise SecurityError(f"{name}: {error}") from error

"""Certificates of one test: an authority, a server's and a client's certificate, and strangers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.programs import program

_SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
_ELSEWHERE = "subjectAltName=DNS:elsewhere.test\nbasicConstraints=CA:FALSE\n"
_CLIENT = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n"


class Certificates:
    """PEM files in a directory, made with the ``openssl`` program.

    ``ca`` signs ``server`` (for localhost and 127.0.0.1), ``elsewhere`` (for another host) and ``client``;
    ``stranger`` is an authority that signed none of them; ``alone`` signed itself, marked as an authority, as
    ``openssl req -x509`` does by default.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for authority in ("ca", "stranger"):
            self._sign_itself(authority, "keyUsage=keyCertSign")
        self._sign_itself("alone", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        for name, extensions in (("server", _SERVER), ("elsewhere", _ELSEWHERE), ("client", _CLIENT)):
            self._sign(name, extensions)

    def path(self, name: str) -> str:
        """The PEM file of a certificate."""
        return str(self._directory / f"{name}.pem")

    def key(self, name: str) -> str:
        """The PEM file of a certificate's private key."""
        return str(self._directory / f"{name}.key")

    def _sign_itself(self, name: str, extension: str) -> None:
        self._openssl("req", "-x509", *self._new_key(name), "-days", "2", "-addext", extension, "-out", self.path(name))

    def _sign(self, name: str, extensions: str) -> None:
        request, wanted = self._directory / f"{name}.csr", self._directory / f"{name}.cnf"
        wanted.write_text(extensions)
        self._openssl("req", "-new", *self._new_key(name), "-out", str(request))
        self._openssl(
            "x509", "-req", "-in", str(request), "-CA", self.path("ca"), "-CAkey", self.key("ca"), "-CAcreateserial",
            "-days", "2", "-extfile", str(wanted), "-out", self.path(name),
        )  # fmt: skip

    def _new_key(self, name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*curve, "-keyout", self.key(name), "-subj", f"/CN=pyworker test {name}")

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run([program("openssl"), *arguments], check=True, capture_output=True)

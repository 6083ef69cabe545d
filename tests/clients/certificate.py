"""Certificates for the gateway's TLS, made by the openssl command as an operator would make one."""

import os
import ssl
import subprocess
from pathlib import Path

from gateway_process import WAIT_S


class Certificate:
    """A certificate for 127.0.0.1 that is signed by itself, with its key in the same file, so that one rename replaces
    both: a gateway that looks in between would find, and log, that they do not fit."""

    def __init__(self, file: Path):
        self.file = file
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
                *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", self.file, "-out", self.file),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=WAIT_S,
        )

    @property
    def settings(self) -> dict[str, str]:
        """Those of a gateway that takes clients over TLS, and no others."""
        return {
            "server__listen": "[]",
            "server__tls__listen": "127.0.0.1:0",
            "server__tls__certificate_file": str(self.file),
            "server__tls__key_file": str(self.file),
        }

    def trust(self) -> ssl.SSLContext:
        """Trusts this certificate and no other, for its names alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        return context

    def der(self) -> bytes:
        [certificate] = self.trust().get_ca_certs(binary_form=True)
        return certificate

    def move_to(self, other: "Certificate") -> None:
        """Puts this one in the other's place."""
        os.replace(self.file, other.file)

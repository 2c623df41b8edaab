"""Self-signed certificates, by openssl."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, *names: str) -> Path:
    """Key and self-signed certificate of `names`, such as `IP:127.0.0.1`, in one file."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("LOUD: TLS is not tested: there is no openssl")
    key, file = folder / "key.pem", folder / "both.pem"
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    name = ["-subj", "/CN=test", "-addext", f"subjectAltName={','.join(names)}", "-days", "2"]
    subprocess.run(
        [*make, "-nodes", "-keyout", key, "-out", file, *name], check=True, capture_output=True
    )
    file.write_text(key.read_text() + file.read_text())
    return file


def server_tls(certificate: Path) -> ssl.SSLContext:
    """What a server needs to speak TLS with this certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls

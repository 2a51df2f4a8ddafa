"""Certificates of one's own, made by openssl: an authority, and whom it signs."""

import shutil
import subprocess

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments):
    command = [shutil.which("openssl"), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def authority(folder, name="ca"):
    """The paths of the certificate and the key of an authority."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl(
        "req",
        "-x509",
        *KEY,
        "-days",
        2,
        "-subj",
        f"/CN={name}",
        "-keyout",
        key,
        "-out",
        certificate,
    )
    return certificate, key


def signed(folder, by, subject, extension="subjectAltName=IP:127.0.0.1,DNS:localhost"):
    """The paths of the certificate and the key of a subject, such as /CN=localhost."""
    stem = subject.strip("/").replace("/", "_").replace("=", "_")
    certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    request, more = folder / f"{stem}.csr", folder / f"{stem}.ext"
    more.write_text(extension)
    openssl("req", *KEY, "-subj", subject, "-keyout", key, "-out", request)
    openssl(
        "x509", "-req", "-in", request, "-CA", by[0], "-CAkey", by[1], "-CAcreateserial",
        "-days", 2, "-extfile", more, "-out", certificate,
    )  # fmt: skip
    return certificate, key

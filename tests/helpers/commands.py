"""Commands run in this process, and packages that were changed and have right hashes again."""

import hashlib
import io
import json

import numpy as np

from modelkit import cli
from modelkit.package import container


def run(capsys, *arguments):
    """The status of a command, and what it printed."""
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def changed(path, edit, shift=None, graph=None):
    """A package with its manifest edited, and its golden outputs or graph, hashes set right again."""
    members = {
        name: bytes(data)
        for name, data in container.read_zip(memoryview(path.read_bytes())).items()
    }
    manifest = json.loads(members["modelkit.json"])
    edit(manifest)
    if shift is not None:
        with np.load(io.BytesIO(members["golden.npz"])) as file:
            arrays = dict(file)
        shift(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        members["golden.npz"] = buffer.getvalue()
    if graph is not None:
        members["model/model.onnx"] = graph
    for entry in manifest["files"]:
        data = members[entry["path"]]
        entry["size"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    members["modelkit.json"] = json.dumps(manifest).encode()
    return b"".join(bytes(piece) for piece in container.write_zip(members))

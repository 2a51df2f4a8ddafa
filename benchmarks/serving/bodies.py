"""How rows are written for each kind of server, and its answers read."""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """How rows are written for a server, and its answers read."""

    write: Callable[[np.ndarray], bytes]
    read: Callable[[bytes], np.ndarray]


def raw(path: str, headers: dict[str, str], body: bytes) -> str:
    """A whole HTTP request, as load.py takes it."""
    told = {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    lines = [f"{name}: {value}" for name, value in (told | headers).items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", body.decode("latin-1")])


def as_v2(x: np.ndarray) -> bytes:
    tensor = {"name": "X", "shape": x.shape, "datatype": "FP32", "data": numbers(x.ravel())}
    return json.dumps(
        {"id": "1", "inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    ).encode()


def as_bytes(x: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """The same in the binary extension, both ways, and the headers that it takes."""
    tensor = {"name": "X", "shape": x.shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    head = json.dumps({"id": "1", "inputs": [tensor], "outputs": [output]}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return head + x.tobytes(), headers


def numbers(x: np.ndarray) -> list:
    """With the digits that a float32 has."""
    return [float(str(value)) for value in x] if x.ndim == 1 else [numbers(row) for row in x]


def from_v2(body: bytes) -> np.ndarray:
    output = json.loads(body)["outputs"][0]
    return np.array(output["data"], float).reshape(output["shape"])


def from_bytes(body: bytes) -> np.ndarray:
    """The one output of an answer in bytes, which follow the JSON, or in JSON where a server likes that better."""
    head, _ = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    output = head["outputs"][0]
    size = (output.get("parameters") or {}).get("binary_data_size")
    if size is None:
        return from_v2(body)
    dtype = {"FP32": np.float32, "FP64": np.float64}[output["datatype"]]
    return np.frombuffer(body[-size:], dtype).reshape(output["shape"])


KINDS = {
    "v2": Kind(as_v2, from_v2),
    "rows": Kind(
        lambda x: json.dumps({"x": numbers(x)}).encode(),
        lambda body: np.array(found["y"] if isinstance(found := json.loads(body), dict) else found),
    ),
    "lit": Kind(
        lambda x: json.dumps({"x": numbers(x)}).encode(),
        lambda body: np.array(json.loads(body)["y"], float).reshape(-1, 2),
    ),
}

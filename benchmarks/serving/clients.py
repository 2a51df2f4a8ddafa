"""Ask an App as KServe's and Triton's clients do: `clients.py PORT FILE`, in an environment with both.

FILE holds rows and the model's answers to them. It prints what was checked as JSON: texts, and whether each held.
"""

import asyncio
import json
import logging
import sys
import warnings

import numpy as np
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from tritonclient.utils import InferenceServerException

MODEL = "cancer"
OUTPUTS = ("label", "probabilities")
Checks = dict[str, bool]


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and np.array_equal(found, expected)
    )


async def by_kserve(url: str, rows: np.ndarray, expected: dict[str, np.ndarray]) -> Checks:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=10))
    checks = {
        "KServe: the server is live": await client.is_server_live(url) is True,
        "KServe: the server is ready": await client.is_server_ready(url) is True,
        "KServe: the model is ready": await client.is_model_ready(url, MODEL) is True,
        "KServe: an unknown model is not": await client.is_model_ready(url, "nope") is False,
    }
    for binary in (False, True):
        tensor = InferInput("X", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        request = InferRequest(model_name=MODEL, infer_inputs=[tensor], request_id="9")
        answer = await client.infer(url, request, model_name=MODEL)
        how = "bytes" if binary else "JSON"
        found = {output.name: output.as_numpy() for output in answer.outputs}
        checks[f"KServe: {how}, the id comes back"] = answer.id == "9"
        checks[f"KServe: {how}, the model is named"] = answer.model_name == MODEL
        for name in OUTPUTS:
            checks[f"KServe: {how}, {name} to the bit"] = same(found[name], expected[name])
    tensor = InferInput("X", [len(rows), 29], "FP32")
    tensor.set_data_from_numpy(rows[:, :29], binary_data=False)
    try:
        request = InferRequest(model_name=MODEL, infer_inputs=[tensor])
        await client.infer(url, request, model_name=MODEL)
        told = ""
    except Exception as error:  # whatever it raises, its text is what is checked
        told = str(error)
    checks["KServe: 29 columns, the reason arrives"] = "422" in told or "30" in told
    await client.close()
    return checks


def by_triton(place: str, rows: np.ndarray, expected: dict[str, np.ndarray]) -> Checks:
    client = triton.InferenceServerClient(place)
    known = client.get_model_metadata(MODEL)
    checks = {
        "Triton: the server is live": client.is_server_live() is True,
        "Triton: the server is ready": client.is_server_ready() is True,
        "Triton: the model is ready": client.is_model_ready(MODEL) is True,
        "Triton: an unknown model is not": client.is_model_ready("nope") is False,
        "Triton: the server knows bytes": "binary_tensor_data"
        in client.get_server_metadata()["extensions"],
        "Triton: metadata of the input": known["inputs"]
        == [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}],
        "Triton: metadata of the outputs": [one["name"] for one in known["outputs"]]
        == list(OUTPUTS),
    }
    for binary in (False, True):
        how = "bytes" if binary else "JSON"
        tensor = triton.InferInput("X", rows.shape, "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
        asked = {"request_id": "7", "timeout": 5_000_000}
        answer = client.infer(MODEL, [tensor], outputs=wanted, **asked)
        checks[f"Triton: {how}, the id comes back"] = answer.get_response()["id"] == "7"
        for name in OUTPUTS:
            checks[f"Triton: {how}, {name} to the bit"] = same(
                answer.as_numpy(name), expected[name]
            )
        for packed in (None, "gzip", "deflate"):
            answer = client.infer(
                MODEL,
                [tensor],
                request_compression_algorithm=packed,
                response_compression_algorithm=packed,
            )
            right = all(same(answer.as_numpy(name), expected[name]) for name in OUTPUTS)
            checks[f"Triton: {how}, all outputs by default, compressed by {packed}"] = right
    tensor = triton.InferInput("X", [len(rows), 29], "FP32")
    tensor.set_data_from_numpy(rows[:, :29])
    try:
        client.infer(MODEL, [tensor])
        told = ""
    except InferenceServerException as error:
        told = f"{error.status()} {error.message()}"
    checks["Triton: 29 columns, status and reason arrive"] = "422" in told and "30" in told
    client.close()
    return checks


def main(port: int, file: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    with np.load(file) as arrays:
        rows = arrays["rows"]
        expected = {name: arrays[name] for name in OUTPUTS}
    checks = asyncio.run(by_kserve(f"http://127.0.0.1:{port}", rows, expected))
    checks |= by_triton(f"127.0.0.1:{port}", rows, expected)
    print(json.dumps(checks))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

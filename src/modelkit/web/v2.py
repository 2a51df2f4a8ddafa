"""The Open Inference Protocol V2 with its binary extension: requests and answers as bytes.

A tensor whose name is a tensor of the model feeds it, and one whose name is a column is that
column: `Signature.coerce` distinguishes them. In JSON, null is a missing value and NaN is written
as null; as bytes, NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.signature import Signature
from modelkit.web import json
from modelkit.web.layout import Layout, layout_of, naming_of, read_array, rows_in
from modelkit.web.query import (
    NONE,
    Limits,
    Query,
    check_output_names,
    check_rows,
    check_width,
    query_of,
    read_text,
    refuse_values,
)
from modelkit.web.replies import Headers, Refused, Reply
from modelkit.web.request import Turns
from modelkit.web.tensors import (
    BYTES,
    NAMES,
    check_datatype,
    check_sizes,
    datatype_of,
    from_bytes,
    from_json,
    shape_of_whole,
    text_of,
    to_bytes,
)

LENGTH_HEADER = b"inference-header-content-length"
OCTETS = (b"content-type", b"application/octet-stream")
PLATFORM = "onnx_onnxv1"
MICROSECONDS = 1e-6
MOST_DIGITS = 19  # from which a number may be beyond 64 bits
NO_PARAMETERS: dict[str, Any] = {}
# What Triton's extensions ask for and no Model does; other parameters are the client's own.
UNSUPPORTED = (
    "classification",
    "sequence_end",
    "sequence_id",
    "sequence_start",
    "shared_memory_byte_size",
    "shared_memory_offset",
    "shared_memory_region",
)


def read(body: bytes, headers: Headers, signature: Signature, limits: Limits) -> Turns[Query]:
    """A request for an answer.

    Raises:
        Refused: 400 for anything but a request of the protocol, and one for what there is not; 413 for
            more rows than `limits` allow; 422 for values that their column does not take.
    """
    head, tail = _split(body, headers, limits)
    if tail is not None and not head:
        return _read_whole(memoryview(body), signature, limits)
    request = _parse(head, tail)
    yield
    X = _read_inputs(request, head, tail, layout_of(signature), limits)
    parameters = _read_parameters(request)
    outputs, binary = _read_outputs(request, parameters, signature)
    json.check_keys(head, _count_keys(request))
    query = query_of(X, outputs, parameters, MICROSECONDS, binary)
    if request.get("id") is None:
        return query
    return query._replace(id=read_text(request, "id"))


def _split(body: bytes, headers: Headers, limits: Limits) -> tuple[bytes, memoryview | None]:
    """The JSON, and the bytes that follow; None where no header says so. Raises Refused."""
    length = headers.get(LENGTH_HEADER)
    if length is None:
        return body, None
    if not (length.isdigit() and len(length) < MOST_DIGITS and int(length) <= len(body)):
        raise Refused(
            f"Inference-Header-Content-Length is {length[:40]!r}; it is the number of bytes of "
            f"JSON, of at most the {len(body)} that the body has"
        )
    size = int(length)
    if size > limits.json:
        raise Refused(f"{size:,} bytes of JSON are more than the {limits.json:,} there may be", 413)
    return body[:size], memoryview(body)[size:]


def _parse(head: bytes, tail: memoryview | None) -> dict[str, Any]:
    try:
        return json.parse_object(head)
    except Refused as error:
        if tail is not None or b"binary_data_size" not in head:
            raise
        raise Refused(
            f"{error.message}; tensors follow as bytes, so send the header "
            "Inference-Header-Content-Length with the number of bytes of JSON"
        ) from None


def _count_keys(request: Mapping[str, Any]) -> int:
    """The keys of the objects that the protocol knows."""
    count = len(request) + len(request.get("parameters") or "")
    for tensor in request["inputs"] + (request.get("outputs") or []):
        count += len(tensor) + len(tensor.get("parameters") or "")
    return count


# Inputs.


def _read_inputs(
    request: dict[str, Any], head: bytes, tail: memoryview | None, layout: Layout, limits: Limits
) -> Any:
    """The rows, as `Signature.coerce` takes them."""
    inputs = request.get("inputs")
    if type(inputs) is not list or not inputs:
        raise Refused("a request has a list of inputs, of one tensor or more")
    check_width(len(inputs), layout.names)
    truths = json.may_hold_booleans(head)
    X: dict[str, Array] = {}
    at = 0
    for tensor in inputs:
        name, datatype, shape = _described(tensor)
        if name in X:
            raise Refused(f"the input {name!r} stands twice")
        count = check_sizes(shape, name, limits.body)
        check_rows(rows_in(layout, name, shape), limits)
        parameters = _read_parameters(tensor)
        if "binary_data_size" in parameters:
            part = _part(tail, at, parameters["binary_data_size"], tensor, name)
            at += len(part)
            X[name] = from_bytes(part, datatype, shape, count, name)
        elif "data" in tensor:
            X[name] = from_json(tensor["data"], datatype, shape, count, name, truths=truths)
        else:
            raise Refused(f"input {name!r} has neither data nor a binary_data_size")
    if tail is not None and at != len(tail):
        raise Refused(f"{len(tail)} bytes follow the JSON, and the inputs are {at} of them")
    return _rows(X, layout)


def _rows(X: dict[str, Array], layout: Layout) -> Any:
    naming = layout.tensors_first
    if naming.read or naming.mixed:
        naming = naming_of(layout, X)
        problems: list[str] = []
        X = {name: read_array(values, name, naming, problems) for name, values in X.items()}
        refuse_values(problems)
    only = layout.only
    if only is not None and len(X) == 1:
        values = X.get(only.name)
        if values is not None and values.ndim > 1:
            return values  # which is coerced faster than a dict
    return X


def _read_parameters(holder: Mapping[str, Any]) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output of V2. Raises Refused, 400."""
    parameters = holder.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if type(parameters) is not dict:
        raise Refused(f"parameters are {json.shown(parameters)}, and an object is expected")
    for name in UNSUPPORTED:
        if name in parameters:
            raise Refused(f"the parameter {name!r} asks for what no model here does")
    return parameters


def _read_truth(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A parameter that is true or false. Raises Refused, 400, for another."""
    value = parameters.get(name, default)
    if type(value) is bool:
        return value
    raise Refused(f"the parameter {name!r} is {json.shown(value)}; it is true or false")


def _described(tensor: Any) -> tuple[str, str, Any]:
    """The name, datatype and shape of an input. Raises Refused, 400."""
    try:
        name = tensor["name"]
        datatype = tensor["datatype"]
        shape = tensor["shape"]
    except (KeyError, TypeError):
        raise Refused("an input is an object with name, shape, datatype and data") from None
    if type(name) is not str:
        raise Refused(f"the name of an input is {json.shown(name)}, not a string")
    return name, check_datatype(datatype, name), shape


def _part(
    tail: memoryview | None, at: int, size: Any, tensor: Mapping[str, Any], name: str
) -> memoryview:
    """The bytes of an input. Raises Refused, 400."""
    if tail is None:
        raise Refused(
            f"input {name!r} has a binary_data_size, and the request no header "
            "Inference-Header-Content-Length"
        )
    if "data" in tensor:
        raise Refused(f"input {name!r} has both data and a binary_data_size")
    if type(size) is not int or not 0 <= size <= len(tail) - at:
        raise Refused(
            f"the binary_data_size of input {name!r} is {json.shown(size)}, and {len(tail) - at} "
            "bytes are left in the body"
        )
    return tail[at : at + size]


def _read_whole(body: memoryview, signature: Signature, limits: Limits) -> Query:
    """A request whose whole body is the bytes of the only input; it is answered in bytes."""
    layout = layout_of(signature)
    spec = layout.only
    if spec is None:
        raise Refused(f"a body of bytes alone is one input; the model has {len(layout.axes)}")
    datatype = datatype_of(spec.dtype)
    shape = shape_of_whole(body, spec, datatype)
    check_rows(rows_in(layout, spec.name, shape), limits)
    if datatype == BYTES:
        tensor = np.array([text_of(body, "the body")], object).reshape(shape)
    else:
        tensor = from_bytes(body, datatype, shape, prod(shape), spec.name)
    names = signature.output_names
    return Query(_rows({spec.name: tensor}, layout), names, binary=frozenset(names))


# Outputs.


def _read_outputs(
    request: Mapping[str, Any], parameters: Mapping[str, Any], signature: Signature
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The outputs wanted, and which of them are wanted as bytes."""
    default = _read_truth(parameters, "binary_data_output", default=False)
    wanted = request.get("outputs")
    if not wanted and (wanted is None or type(wanted) is list):
        names = signature.output_names
        return names, frozenset(names) if default else NONE
    if type(wanted) is not list:
        raise Refused(f"outputs are {json.shown(wanted)}, not a list")
    named = []
    binary = []
    for output in wanted:
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str:
            raise Refused(f"an output is an object with a name, not {json.shown(output)}")
        named.append(name)
        as_bytes = default
        if "parameters" in output:
            as_bytes = _read_truth(_read_parameters(output), "binary_data", default=default)
        if as_bytes:
            binary.append(name)
    return check_output_names(named, signature), frozenset(binary) if binary else NONE


def write(
    query: Query, answers: Mapping[str, Array], model_name: str, version: str
) -> Turns[Reply]:
    """The answer to a request. Raises Refused, 406, for one that its format cannot hold."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    as_json: list[str] = []
    for name in query.outputs:
        values = answers[name]
        datatype = NAMES.get(values.dtype)
        if datatype is None:
            values = json.plain_array(values)
            datatype = NAMES.get(values.dtype, BYTES)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
        if name in query.binary:
            raw = to_bytes(values, datatype)
            output["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            flat = values.ravel()
            short = flat.size <= json.LONG
            output["data"] = json.dumpable(flat) if short else (yield from json.encode(flat))
            as_json.append(name)
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model_name}
    if version:
        answer["model_version"] = version
    if query.id is not None:
        answer["id"] = query.id
    answer["outputs"] = outputs
    head = json.dump_finite(answer, as_json, answers)
    if not query.binary:
        return Reply(head)
    headers = [OCTETS, (LENGTH_HEADER, b"%d" % len(head))]
    return Reply(b"".join([head, *tail]), headers)


# What there is.


def metadata(name: str, version: str, signature: Signature) -> Reply:
    """What a model takes and gives, as the protocol says it; a free size is -1."""
    described = {
        "name": name,
        "versions": [version] if version else [],
        "platform": PLATFORM,
        "inputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in signature.inputs],
        "outputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in signature.outputs],
    }
    return Reply(json.dump(described))


def _tensor(name: str, dtype: str, shape: Iterable[int | str]) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return {"name": name, "datatype": datatype_of(dtype), "shape": sizes}

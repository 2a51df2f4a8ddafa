"""The Open Inference Protocol V2 with its binary extension: requests and answers as bytes.

A tensor whose name is a tensor of the model feeds it, and one whose name is a column is that
column: `Signature.coerce` tells them apart. In JSON, null is a missing value and NaN is written as
null; as bytes, NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.signature import Signature
from modelkit.web import json
from modelkit.web.answers import Steps, finish, plain_array, to_json
from modelkit.web.layout import Layout, layout_of, read_array, rows_of
from modelkit.web.options import (
    check_output_names,
    check_rows,
    check_type,
    read_id,
    read_key,
    read_priority,
    read_timeout,
    refuse_values,
)
from modelkit.web.query import Limits, Query
from modelkit.web.reply import JSON, Headers, Refused, Reply
from modelkit.web.tensors import (
    BYTES,
    DATATYPES,
    NAMES,
    check_datatype,
    check_sizes,
    datatype_of,
    from_bytes,
    from_json,
    text_of,
    to_bytes,
)

LENGTH_HEADER = b"inference-header-content-length"
OCTETS = (b"content-type", b"application/octet-stream")
PLATFORM = "onnx_onnxv1"
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
NO_PARAMETERS: dict[str, Any] = {}
MICROSECONDS = 1e-6


def read(
    body: bytes | memoryview,
    headers: Headers,
    signature: Signature,
    limits: Limits,
) -> Query:
    """A request for an answer.

    Raises:
        Refused: 400 for what is no request of the protocol, or asks for what there is not; 413 for
            more rows than `limits` allow; 415 for another type of content; 422 for values that are
            no values of their column.
    """
    check_type(headers)
    length = headers.get(LENGTH_HEADER)
    layout = layout_of(signature)
    if length is None:
        head = bytes(body)
        tail = None
    else:
        size = _length(length, len(body))
        if size == 0:
            return _read_whole(memoryview(body), signature, layout, limits)
        head = bytes(body[:size])
        tail = memoryview(body)[size:]
    request = _parse(head, has_length=length is not None)
    X = _read_inputs(request, head, tail, layout, limits)
    parameters = _parameters(request, "the request")
    outputs, binary = _read_outputs(request, parameters, signature)
    json.check_keys(head, _count_keys(request))
    return Query(
        X,
        outputs,
        read_timeout(parameters, MICROSECONDS) if "timeout" in parameters else None,
        read_priority(parameters) if "priority" in parameters else 0,
        read_key(parameters) if "key" in parameters else None,
        read_id(request) if "id" in request else None,
        binary,
    )


def _length(header: bytes, size: int) -> int:
    """The bytes of JSON that the header announces. Raises Refused, 400."""
    if header.isdigit() and len(header) < len(str(1 << 63)) and int(header) <= size:
        return int(header)
    raise Refused(
        400,
        f"Inference-Header-Content-Length is {header[:40]!r}; it is the number of bytes of JSON, "
        f"of at most the {size} that the body has",
    )


def _parse(head: bytes, *, has_length: bool) -> dict[str, Any]:
    try:
        return json.parse_object(head)
    except Refused as error:
        if has_length or b"binary_data_size" not in head:
            raise
        raise Refused(
            400,
            f"{error.message}; tensors follow as bytes, so send the header "
            "Inference-Header-Content-Length with the number of bytes of JSON",
        ) from None


def _count_keys(value: Any) -> int:
    """The keys of the objects of a request; those within lists of numbers need no look."""
    if type(value) is dict:
        count = len(value)
        for inner in value.values():
            if type(inner) in (dict, list):
                count += _count_keys(inner)
        return count
    return sum(map(_count_keys, value)) if value and type(value[0]) is dict else 0


def _parameters(holder: Mapping[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if type(parameters) is not dict:
        raise Refused(400, f"the parameters of {what} are {json.shown(parameters)}, not an object")
    for name in UNSUPPORTED:
        if name in parameters:
            raise Refused(400, f"the parameter {name!r} of {what} asks for what no model here does")
    return parameters


def _truth(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise Refused(400, f"the parameter {name!r} is {json.shown(value)}; it is true or false")
    return value


# Inputs.


def _read_inputs(
    request: dict[str, Any],
    head: bytes,
    tail: memoryview | None,
    layout: Layout,
    limits: Limits,
) -> Any:
    """The rows, as `Signature.coerce` takes them."""
    inputs = request.get("inputs")
    if type(inputs) is not list or not inputs:
        raise Refused(400, "a request has a list of inputs, of one tensor or more")
    truths = b"true" in head or b"false" in head
    X: dict[str, Array] = {}
    at = 0
    for tensor in inputs:
        name, datatype, shape = _described(tensor)
        if name in X:
            raise Refused(400, f"the input {name!r} stands twice")
        count = check_sizes(shape, name, limits.body)
        check_rows(rows_of(layout, name, shape), limits)
        parameters = _parameters(tensor, f"input {name!r}")
        if "binary_data_size" in parameters:
            part = _part(tail, at, parameters["binary_data_size"], tensor, name)
            at += len(part)
            X[name] = from_bytes(part, datatype, shape, count, name)
        elif "data" in tensor:
            X[name] = from_json(tensor["data"], datatype, shape, count, name, truths=truths)
        else:
            raise Refused(400, f"input {name!r} has neither data nor a binary_data_size")
    if tail is not None and at != len(tail):
        raise Refused(400, f"{len(tail)} bytes follow the JSON, and the inputs are {at} of them")
    return _rows(X, layout)


def _rows(X: dict[str, Array], layout: Layout) -> Any:
    if layout.read or layout.mixed:
        problems: list[str] = []
        X = {name: read_array(values, name, layout, problems) for name, values in X.items()}
        refuse_values(problems)
    only = layout.only
    if only is not None and len(X) == 1:
        values = X.get(only.name)
        if values is not None and values.ndim > 1:
            return values  # which is coerced faster than a dict
    return X


def _described(tensor: Any) -> tuple[str, str, Any]:
    """The name, datatype and shape of an input. Raises Refused, 400."""
    try:
        name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
    except (KeyError, TypeError):
        raise Refused(400, "an input is an object with name, shape, datatype and data") from None
    if type(name) is not str:
        raise Refused(400, f"the name of an input is {json.shown(name)}, not a string")
    return name, check_datatype(datatype, name), shape


def _part(
    tail: memoryview | None,
    at: int,
    size: Any,
    tensor: Mapping[str, Any],
    name: str,
) -> memoryview:
    """The bytes of an input. Raises Refused, 400."""
    if tail is None:
        raise Refused(
            400,
            f"input {name!r} has a binary_data_size, and the request no header "
            "Inference-Header-Content-Length",
        )
    if "data" in tensor:
        raise Refused(400, f"input {name!r} has both data and a binary_data_size")
    if type(size) is not int or not 0 <= size <= len(tail) - at:
        raise Refused(
            400,
            f"the binary_data_size of input {name!r} is {json.shown(size)}, and {len(tail) - at} "
            "bytes are left in the body",
        )
    return tail[at : at + size]


def _read_whole(
    body: memoryview,
    signature: Signature,
    layout: Layout,
    limits: Limits,
) -> Query:
    """A request whose whole body is the bytes of the only input; it is answered in bytes."""
    spec = layout.only
    if spec is None:
        raise Refused(400, f"a body of bytes alone is one input; the model has {len(layout.axes)}")
    datatype = datatype_of(spec.dtype)
    free = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    sizes = [1 if isinstance(size, str) else size for size in spec.shape]
    if datatype == BYTES:
        free = []
        width = 1
    else:
        width = DATATYPES[datatype].itemsize * prod(sizes)
    if len(free) > 1 or prod(sizes) == 0:
        raise Refused(400, f"a body of bytes alone does not say which shape it has, of {spec}")
    if free:
        sizes[free[0]] = len(body) // width
    check_rows(rows_of(layout, spec.name, sizes), limits)
    if datatype == BYTES:
        values = np.empty(1, object)
        values[0] = text_of(body, "the body")
        if prod(sizes) != 1:
            raise Refused(400, f"a body of bytes alone is one string, and the input is {spec}")
        X = _rows({spec.name: values.reshape(sizes)}, layout)
    else:
        tensor = from_bytes(body, datatype, sizes, prod(sizes), spec.name)
        X = _rows({spec.name: tensor}, layout)
    names = signature.output_names
    return Query(X, names, binary=frozenset(names))


# Outputs.


def _read_outputs(
    request: Mapping[str, Any],
    parameters: Mapping[str, Any],
    signature: Signature,
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The outputs wanted, and those of them that are wanted as bytes."""
    default = _truth(parameters, "binary_data_output", default=False)
    wanted = request.get("outputs")
    if not wanted and (wanted is None or type(wanted) is list):
        names = signature.output_names
        return names, frozenset(names) if default else frozenset()
    if type(wanted) is not list:
        raise Refused(400, f"outputs are {json.shown(wanted)}, not a list")
    named = []
    binary = set()
    for output in wanted:
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str:
            raise Refused(400, f"an output is an object with a name, not {json.shown(output)}")
        named.append(name)
        if _truth(_parameters(output, f"output {name!r}"), "binary_data", default=default):
            binary.add(name)
    return check_output_names(named, signature), frozenset(binary)


def write(
    query: Query,
    answers: Mapping[str, Array],
    model_name: str,
    version: str,
) -> Reply:
    """The answer to a request. Raises Refused, 406, for one that its format cannot hold."""
    return finish(write_in_steps(query, answers, model_name, version))


def write_in_steps(
    query: Query,
    answers: Mapping[str, Array],
    model_name: str,
    version: str,
) -> Steps:
    """The answer as of `write`, in steps of about a millisecond, so that others have a turn between.

    Raises Refused, 406, for an answer that its format cannot hold.
    """
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name in query.outputs:
        values = plain_array(answers[name])
        datatype = NAMES.get(values.dtype, BYTES)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
        if name in query.binary:
            raw = to_bytes(values, datatype)
            output["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            output["data"] = yield from to_json(values.reshape(-1), name)
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model_name}
    if version:
        answer["model_version"] = version
    if query.id is not None:
        answer["id"] = query.id
    answer["outputs"] = outputs
    head = json.dump(answer)
    if not query.binary:
        return Reply(200, [JSON], head)
    headers = [OCTETS, (LENGTH_HEADER, b"%d" % len(head))]
    return Reply(200, headers, b"".join([head, *tail]))


# What there is.


def metadata(
    name: str,
    versions: Iterable[str],
    signature: Signature,
) -> Reply:
    """What a model takes and gives, as the protocol says it; a free size is -1."""
    described = {
        "name": name,
        "versions": [version for version in versions if version],
        "platform": PLATFORM,
        "inputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in signature.inputs],
        "outputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in signature.outputs],
    }
    return Reply(200, [JSON], json.dump(described))


def _tensor(name: str, dtype: str, shape: Iterable[int | str]) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return {"name": name, "datatype": datatype_of(dtype), "shape": sizes}

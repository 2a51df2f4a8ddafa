"""The Open Inference Protocol V2: requests and answers as bytes, in JSON and in the binary extension."""

import json
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.examples import examples
from helpers.web_models import SIGNATURES, model_of, numbers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.model.call import PLAIN
from modelkit.signature.spec import GRAPH_DTYPES
from modelkit.web import v2
from modelkit.web.json import LONG
from modelkit.web.query import Limits, Query
from modelkit.web.replies import Refused
from modelkit.web.request import at_once
from modelkit.web.tensors import DATATYPES

LIMITS = Limits()
HEADER = b"inference-header-content-length"
ONE = SIGNATURES["numbers"]
WIDE = [0.5] * 30


def tensor_signature(dtype, dims=1):
    """One input and one output of a dtype, without columns."""
    shape = ("batch", *[f"d{axis}" for axis in range(1, dims)])
    return mk.Signature((mk.TensorSpec("x", dtype, shape),), (mk.TensorSpec("y", dtype, shape),))


def request(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


def tensor(name="X", datatype="FP32", shape=(1, 30), data=WIDE, **more):
    made = {"name": name, "datatype": datatype, "shape": list(shape), "data": data, **more}
    return {key: value for key, value in made.items() if value is not None}


def read(body, headers=(), signature=ONE, limits=LIMITS):
    return at_once(v2.read(body, dict(headers), signature, limits))


def write(query, answers, name="m", version=""):
    return at_once(v2.write(query, answers, name, version))


def binary(signature, raw, shape, datatype, **parameters):
    sized = {"binary_data_size": len(raw), **parameters}
    head = request(tensor("x", datatype, shape, None, parameters=sized))
    return read(head + raw, {HEADER: b"%d" % len(head)}, signature)


def refused(status, match, body, headers=(), signature=ONE, limits=LIMITS):
    with pytest.raises(Refused, match=match) as caught:
        read(body, headers, signature, limits)
    assert caught.value.status == status
    return caught.value


def feeds_of(query, signature):
    return signature.coerce(query.X)


# Round trips.

DTYPES = {name: dtype.name for name, dtype in DATATYPES.items()} | {"BYTES": "string"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0"), max_size=8)


def arrays(datatype, *, finite=False):
    dtype = np.dtype(object) if datatype == "BYTES" else DATATYPES[datatype]
    kinds = {}
    if dtype.kind == "O":
        kinds["elements"] = TEXTS
    elif dtype.kind == "f" and finite:
        width = 8 * dtype.itemsize
        kinds["elements"] = st.floats(width=width, allow_infinity=False, allow_nan=True)
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    return hnp.arrays(dtype, shapes, **kinds)


def answered(values, datatype, *, as_bytes):
    """What `write` makes of an output, read back as an input of the same tensor."""
    names = frozenset({"y"}) if as_bytes else frozenset()
    reply = write(Query(None, ("y",), id="7", binary=names), {"y": values}, "m", "1.0")
    headers = dict(reply.headers)
    size = int(headers.get(HEADER, len(reply.body)))
    head = json.loads(reply.body[:size])
    assert head["model_name"] == "m"
    assert head["model_version"] == "1.0"
    assert head["id"] == "7"
    (output,) = head["outputs"]
    assert output["datatype"] == datatype
    assert output["shape"] == list(values.shape)
    head["inputs"] = [output | {"name": "x"}]
    del head["outputs"]
    again = json.dumps(head).encode()
    tail = reply.body[size:]
    return again + tail, {HEADER: b"%d" % len(again)} if as_bytes else {}


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "json"])
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_comes_back_as_it_was(datatype, as_bytes):
    @settings(max_examples=examples(30))
    @given(arrays(datatype, finite=not as_bytes))
    def check(values):
        signature = tensor_signature(DTYPES[datatype], values.ndim)
        body, headers = answered(values, datatype, as_bytes=as_bytes)
        back = feeds_of(read(body, headers, signature), signature)["x"]
        assert back.shape == values.shape
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)

    check()


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_the_ends_of_integers_come_back(datatype):
    info = np.iinfo(DATATYPES[datatype])
    values = np.array([info.min, info.max, 0], DATATYPES[datatype])
    signature = tensor_signature(DTYPES[datatype])
    for as_bytes in (True, False):
        body, headers = answered(values, datatype, as_bytes=as_bytes)
        back = feeds_of(read(body, headers, signature), signature)["x"]
        np.testing.assert_array_equal(back, values)


def test_answers_of_no_rows_keep_dtype_and_shape():
    for datatype, dtype in DTYPES.items():
        values = np.empty((0, 3), object if dtype == "string" else dtype)
        for as_bytes in (True, False):
            body, headers = answered(values, datatype, as_bytes=as_bytes)
            signature = tensor_signature(dtype, 2)
            back = feeds_of(read(body, headers, signature), signature)["x"]
            assert back.shape == (0, 3)
            assert back.dtype == values.dtype


def test_a_long_answer_is_the_same_in_steps():
    rng = np.random.default_rng(0)
    for values in (
        rng.random((3 * LONG // 8, 8), np.float32),
        rng.random((2, LONG + 5)),
        rng.integers(0, 9, 2 * LONG),
        rng.integers(0, 9, 2 * LONG).astype(str).astype(object),
        np.asfortranarray(rng.random((LONG, 3), np.float32)),
    ):
        query = Query(None, ("y",))
        steps = v2.write(query, {"y": values}, "m", "")
        turns = 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                reply = end.value
                break
            turns += 1
        assert turns >= 2
        data = json.loads(reply.body)["outputs"][0]["data"]
        np.testing.assert_array_equal(np.array(data, values.dtype), values.reshape(-1))


def test_floats_are_written_in_their_shortest_form():
    values = np.array([0.1, 16777216], np.float32)
    body = write(Query(None, ("y",)), {"y": values}).body
    assert b'"data":[0.1,16777216.0]' in body
    assert b"model_version" not in body


# What the protocol asks for.


def test_options_and_outputs():
    classifier = SIGNATURES["a classifier"]
    inputs = tensor(shape=[1, 2], data=[1, 2])
    query = read(
        request(
            inputs,
            id="a",
            parameters={"timeout": 2500, "priority": -1, "key": "c7", "mine": 1},
            outputs=[
                {"name": "probabilities", "parameters": {"binary_data": True}},
                {"name": "label"},
            ],
        ),
        signature=classifier,
    )
    assert query[1:] == (
        ("probabilities", "label"), pytest.approx(0.0025), -1, "c7", "a", frozenset({"probabilities"}), None,
    )  # fmt: skip
    assert read(request(inputs), signature=classifier).outputs == ("label", "probabilities")
    nulls = {"id": None, "parameters": None, "outputs": None}  # as MLServer's client writes them
    assert read(request(inputs, **nulls), signature=classifier).id is None
    every = read(
        request(
            inputs,
            parameters={"binary_data_output": True},
            outputs=[
                {"name": "label", "parameters": {"binary_data": False}},
                {"name": "probabilities"},
            ],
        ),
        signature=classifier,
    )
    assert every.binary == {"probabilities"}
    every = read(request(inputs, parameters={"binary_data_output": True}), signature=classifier)
    assert every.binary == {"label", "probabilities"}


def test_metadata():
    reply = v2.metadata("m", "1.0", SIGNATURES["several tensors"])
    assert json.loads(reply.body) == {
        "name": "m",
        "versions": ["1.0"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "mask", "datatype": "BOOL", "shape": [-1, -1]},
            {"name": "words", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "n", "datatype": "INT64", "shape": []},
        ],
    }
    assert list(reply.headers) == [(b"content-type", b"application/json")]


def test_columns_may_be_tensors_of_their_own():
    signature = SIGNATURES["columns of many kinds"]
    row = [
        tensor("size", "FP64", [2, 1], [1.5, 2]),
        tensor("rooms", "FP64", [2, 1], [None, 3]),
        tensor("floor", "INT8", [2], [1, 2]),
        tensor("lift", "BOOL", [2, 1], [True, False]),
        tensor("flag", "BOOL", [2, 1], [[True], [False]]),
        tensor("grade", "FP64", [2, 1], [1, 2.5]),
        tensor("town", "BYTES", [2, 1], ["Ulm", None]),
        tensor("note", "BYTES", [2, 1], ["", "a:b"]),
        tensor("any", "BYTES", [2, 1], ['"3"', "3"]),
        tensor("seen", "BYTES", [2, 1], ["2026-01-31", None]),
        tensor(
            "due", "BYTES", [2, 1], ["2026-01-31T12:00:00.123456789+01:00", "1999-12-31T00:00Z"]
        ),
        tensor("took", "FP64", [2, 1], [0.25, None]),
    ]
    feeds = feeds_of(read(request(*row), signature=signature), signature)
    assert feeds["due"][:, 0].tolist()[0] == int(
        np.datetime64("2026-01-31T11:00:00.123456789", "ns").astype(int)
    )
    assert feeds["any"][:, 0].tolist() == ['"3"', "3"]
    assert feeds["took"][0, 0] == np.timedelta64(250, "ms")
    assert np.isnat(feeds["took"][1, 0])
    assert np.isnan(feeds["rooms"][0, 0])
    for place, bad, why in (
        (9, tensor("seen", "BYTES", [2, 1], ["2026-01-31Z", "x"]), "without a time zone"),
        (10, tensor("due", "BYTES", [2, 1], ["2026-13-31Z", None]), "a time that does not exist"),
        (10, tensor("due", "BYTES", [2, 1], ["now", None]), "with a time zone"),
        (8, tensor("any", "BYTES", [2, 1], ["3", "x"]), "the JSON of a value.*in row 1"),
        (11, tensor("took", "FP64", [2, 1], [0.1234567891, None]), "nine decimal places"),
    ):
        body = request(*row[:place], bad, *row[place + 1 :])
        error = refused(422, why, body, signature=signature)
        assert error.problems
    mixed = SIGNATURES["strings of two kinds"]
    whole = request(tensor("S", "BYTES", [1, 2], ["3", "3"]))
    np.testing.assert_array_equal(feeds_of(read(whole, signature=mixed), mixed)["S"], [["3", "3"]])


def test_a_body_of_bytes_alone_is_the_one_input():
    values = np.arange(60, dtype=np.float32).reshape(2, 30)
    query = read(values.tobytes(), {HEADER: b"0"})
    np.testing.assert_array_equal(query.X, values)
    assert query.binary == {"y"}
    assert feeds_of(read(b"", {HEADER: b"0"}), ONE)["X"].shape == (0, 30)
    text = read("grüß".encode(), {HEADER: b"0"}, SIGNATURES["text"])
    assert text.X.tolist() == [["grüß"]]
    refused(400, "121 bytes do not hold 1 values|do not hold", b"\0" * 121, {HEADER: b"0"})
    refused(400, "not UTF-8", b"\xff", {HEADER: b"0"}, SIGNATURES["text"])
    refused(400, "one input; the model has 3", b"", {HEADER: b"0"}, SIGNATURES["several tensors"])
    refused(400, "does not say its shape", b"", {HEADER: b"0"}, tensor_signature("int8", 2))
    refused(413, "rows", b"\0" * 121 * 100, {HEADER: b"0"}, numbers(1), Limits(rows=10))


# Clients.


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "json"])
@pytest.mark.parametrize("datatype", DTYPES)
def test_tritonclient_is_understood_and_understands(datatype, as_bytes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tritonclient import http
        from tritonclient.http._utils import _get_inference_request

    dtype = DTYPES[datatype]
    values = np.array([[1, 0], [1, 1], [0, 0]], "f8").astype(object if dtype == "string" else dtype)
    if dtype == "string":
        values = np.array([["a", "grüß"], ["", "\0x"], ["b", "c"]], object)
    signature = tensor_signature(dtype, 2)
    given_input = http.InferInput("x", list(values.shape), datatype)
    given_input.set_data_from_numpy(values, binary_data=as_bytes)
    wanted = http.InferRequestedOutput("y", binary_data=as_bytes)
    body, size = _get_inference_request(
        inputs=[given_input],
        request_id="r",
        outputs=[wanted],
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=1000,
        custom_parameters=None,
    )
    query = read(body, {} if size is None else {HEADER: b"%d" % size}, signature)
    assert query.id == "r"
    assert query.timeout == pytest.approx(0.001)
    np.testing.assert_array_equal(feeds_of(query, signature)["x"], values)

    reply = write(query, {"y": values}, "m", "1")
    length = dict(reply.headers).get(HEADER)
    result = http.InferResult.from_response_body(
        reply.body, header_length=None if length is None else int(length)
    )
    back = result.as_numpy("y")
    if dtype == "string":
        back = np.array(
            [item if isinstance(item, str) else item.decode() for item in back.flat], object
        )
    np.testing.assert_array_equal(back.reshape(values.shape), values)
    assert back.dtype == values.dtype


# What is refused.

NESTED = b'{"inputs": ' + b"[" * 5000


@dataclass(frozen=True)
class Bad:
    """A request that is refused: with which status, and what the message says."""

    body: bytes
    match: str
    status: int = 400
    signature: mk.Signature = ONE
    headers: tuple = ()


INT = tensor_signature("int64")
TEXT = tensor_signature("string")
TRUTH = tensor_signature("bool")
HALF = tensor_signature("float16")


def one(datatype, data, signature, shape=None):
    return request(tensor("x", datatype, [len(data)] if shape is None else shape, data))


BAD = {
    "no JSON": Bad(b"{", "not JSON"),
    "empty": Bad(b"", "not JSON"),
    "a list": Bad(b"[]", "a list, and a JSON object is expected"),
    "NaN": Bad(request(tensor(data=[float("nan")] * 30)), "write null for a missing value"),
    "infinity": Bad(b'{"inputs": [{"data": [Infinity]}]}', "JSON lacks NaN and infinity"),
    "1e999": Bad(b'{"inputs": [1e999]}', "not JSON"),
    "nesting": Bad(NESTED, "within each other|not JSON"),
    "no inputs": Bad(b"{}", "a list of inputs"),
    "inputs: []": Bad(request(), "a list of inputs"),
    "inputs are an object": Bad(b'{"inputs": {}}', "a list of inputs"),
    "an input is a number": Bad(request(3), "an input is an object"),
    "no shape": Bad(request(tensor(shape=()) | {"shape": None}), "shape must be a list"),
    "no name": Bad(b'{"inputs": [{"shape": [1], "datatype": "FP32", "data": [1]}]}', "with name"),
    "name is a number": Bad(request(tensor(name=3)), r"the name of an input is 3 \(a number\)"),
    "no data": Bad(request(tensor(data=None)), "neither data nor"),
    "data is a number": Bad(request(tensor(data=3)), "a list is expected"),
    "data is an object": Bad(request(tensor(data={})), "a list is expected"),
    "twice the input": Bad(request(tensor(), tensor()), "stands twice"),
    "a key twice": Bad(
        request(tensor()).replace(b'"shape"', b'"shape": [1, 2], "shape"'), "a key appears twice"
    ),
    "BF16": Bad(request(tensor(datatype="BF16")), "send FP32"),
    "unknown datatype": Bad(request(tensor(datatype="FP8")), "is not one of BOOL, UINT8"),
    "datatype is a list": Bad(request(tensor(datatype=[])), "is not one of"),
    "shape -1": Bad(request(tensor(shape=[-1, 30])), "sizes are integers of 0 or more"),
    "shape of strings": Bad(request(tensor(shape=["1", 30])), "sizes are integers"),
    "shape of truths": Bad(request(tensor(shape=[True, 30])), "sizes are integers"),
    "shape of floats": Bad(request(tensor(shape=[1.0, 30])), "sizes are integers"),
    "shape of many dimensions": Bad(request(tensor(shape=[1] * 33)), "at most 32 sizes"),
    "shape beyond 63 bits": Bad(request(tensor(shape=[1 << 63, 30])), "sizes are integers"),
    "sizes that overflow": Bad(request(tensor(shape=[1 << 32, 1 << 32])), "rows", 413),
    "sizes that overflow behind rows": Bad(
        request(tensor(shape=[4, 1 << 62, 1 << 62])), "30 values do not fill"
    ),
    "no values but large": Bad(request(tensor(shape=[2, 0, 1 << 62], data=[])), "too large"),
    "shape against data": Bad(request(tensor(shape=[2, 30])), "30 values do not fill shape"),
    "nested against shape": Bad(request(tensor(data=[WIDE, WIDE])), "do not have shape"),
    "nested otherwise": Bad(request(tensor(data=[[1] * 15] * 2)), "do not have shape"),
    "ragged": Bad(request(tensor(data=[[1], [1, 2]])), "do not have shape"),
    "many lists of nothing": Bad(request(tensor(shape=[1, 0], data=[[], []])), "do not have shape"),
    "too deep": Bad(request(tensor(data=[[[1]] * 30])), "value 0 is a list"),
    "many inputs": Bad(request(*[tensor(f"{j}") for j in range(1100)]), "1100 names are too many"),
    "a string in FP32": Bad(request(tensor(data=["1", *WIDE[1:]])), 'value 0 is "1" .a string'),
    "a truth in FP32": Bad(request(tensor(data=[True, *WIDE[1:]])), "value 0 is true"),
    "1e300 in FP32": Bad(request(tensor(data=[1e300, *WIDE[1:]])), "at most 3.40282e"),
    "70000 in FP16": Bad(one("FP16", [1, 7e4], HALF), "at most 65504", signature=HALF),
    "1.7 in INT64": Bad(one("INT64", [1.7], INT), "an integer from", signature=INT),
    "1.0 in INT64": Bad(one("INT64", [1.0], INT), "an integer from", signature=INT),
    "null in INT64": Bad(one("INT64", [None], INT), "null, and an integer", signature=INT),
    "a truth in INT64": Bad(one("INT64", [True], INT), "true .a boolean", signature=INT),
    "2**63 in INT64": Bad(one("INT64", [1 << 63], INT), "9223372036854775807", signature=INT),
    "2**64 in UINT64": Bad(one("UINT64", [1 << 64], INT), "18446744073709551615", signature=INT),
    "-1 in UINT8": Bad(one("UINT8", [-1], INT), "from 0 to 255", signature=INT),
    "128 in INT8": Bad(one("INT8", [128], INT), "from -128 to 127", signature=INT),
    "1 in BOOL": Bad(one("BOOL", [1], TRUTH), "a boolean .BOOL", signature=TRUTH),
    "null in BOOL": Bad(one("BOOL", [None], TRUTH), "a boolean .BOOL", signature=TRUTH),
    "a number in BYTES": Bad(one("BYTES", [1], TEXT), "a string or null", signature=TEXT),
    "unknown output": Bad(request(tensor(), outputs=[{"name": "z"}]), 'the model lacks an output "z"'),
    "an output twice": Bad(request(tensor(), outputs=[{"name": "y"}] * 2), "stands twice"),
    "an output is a string": Bad(request(tensor(), outputs=["y"]), "an object with a name"),
    "outputs are an object": Bad(request(tensor(), outputs={}), "not a list"),
    "id is a number": Bad(request(tensor(), id=3), "id is 3"),
    "parameters are a list": Bad(request(tensor(), parameters=[]), "an object is expected"),
    "timeout 0": Bad(request(tensor(), parameters={"timeout": 0}), "microseconds above 0"),
    "timeout is a text": Bad(request(tensor(), parameters={"timeout": "1"}), "microseconds"),
    "timeout is true": Bad(request(tensor(), parameters={"timeout": True}), "microseconds"),
    "priority 7": Bad(request(tensor(), parameters={"priority": 7}), "0, or -1"),
    "key is a number": Bad(request(tensor(), parameters={"key": 7}), "a string"),
    "binary_data_output 1": Bad(request(tensor(), parameters={"binary_data_output": 1}), "true or"),
    "a sequence": Bad(request(tensor(), parameters={"sequence_id": 1}), "no model here does"),
    "shared memory": Bad(
        request(tensor(parameters={"shared_memory_region": "r"})), "no model here does"
    ),
    "too many rows": Bad(request(tensor(shape=[10_001, 0], data=[])), "10001 rows", 413),
    "latin-1": Bad('{"ü": 1}'.encode("latin-1"), "not JSON"),
    "a surrogate": Bad(b'{"inputs": ["\\ud800"]}', "not JSON"),
    "header is not a number": Bad(b"{}", "number of bytes of JSON", 400, ONE, ((HEADER, b"x"),)),
    "header is negative": Bad(b"{}", "number of bytes of JSON", 400, ONE, ((HEADER, b"-1"),)),
    "header is large": Bad(b"{}", "number of bytes of JSON", 400, ONE, ((HEADER, b"3"),)),
    "header is huge": Bad(b"{}", "number of bytes of JSON", 400, ONE, ((HEADER, b"9" * 9999),)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_with_its_reason(name):
    bad = BAD[name]
    refused(bad.status, bad.match, bad.body, bad.headers, bad.signature)


def test_what_the_signature_refuses_is_left_to_it():
    for body in (
        request(tensor(name="Z")),
        request(tensor(shape=[1, 29], data=WIDE[1:])),
        request(tensor(data=[None, *WIDE[1:]])),
        request(tensor(datatype="BYTES", data=["1"] * 30)),
    ):
        query = read(body)
        with pytest.raises(SignatureError):
            ONE.coerce(query.X)


def test_another_datatype_is_cast_as_the_signature_does():
    for datatype in ("FP64", "FP16", "INT64", "UINT8"):
        feeds = feeds_of(read(request(tensor(datatype=datatype, data=[1] * 30))), ONE)
        assert feeds["X"].dtype == np.float32
        np.testing.assert_array_equal(feeds["X"], np.ones((1, 30)))
    doubles = SIGNATURES["doubles"]
    same = [tensor(shape=[1, 3], data=[0.1, 0.2, 1e20])]
    feeds = feeds_of(read(request(*same), signature=doubles), doubles)
    np.testing.assert_array_equal(feeds["X"], np.array([[0.1, 0.2, 1e20]], np.float32))


RAW = np.float32(WIDE).tobytes()


def headed(size, raw=RAW, length=None, **more):
    """A request with one tensor as bytes, and what its header says."""
    made = tensor(data=None, parameters={"binary_data_size": size}) | more
    head = request(made)
    return head + raw, {HEADER: b"%d" % (len(head) if length is None else length)}


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ((headed(120)[0], {}), "Inference-Header-Content-Length"),
        ((headed(0, b"", shape=[0, 30])[0], {}), "no header Inference-Header-Content-Length"),
        (headed(119), "119 bytes do not hold 30 values"),
        (headed(121), "120 bytes are left"),
        (headed(-4), "bytes are left"),
        (headed(1 << 63), "bytes are left"),
        (headed(1.5), "bytes are left"),
        (headed("120"), "bytes are left"),
        (headed(True), "bytes are left"),
        (headed(120, RAW + b"\0"), "121 bytes follow the JSON"),
        (headed(120, data=WIDE), "both data and"),
        (headed(120, length=5), "not JSON"),
    ],
)
def test_bad_sizes_are_refused(made, match):
    refused(400, match, *made)


def test_the_bytes_of_strings_and_truths_are_checked():
    def strings(*lengths):
        return b"".join(struct.pack("<I", length) + b"ab" for length in lengths)

    assert binary(TEXT, strings(2, 2), [2], "BYTES").X["x"].tolist() == ["ab", "ab"]
    assert binary(TEXT, b"\0\0\0\0", [1], "BYTES").X["x"].tolist() == [""]
    for raw, shape in (
        (strings(2, 3), [2]),
        (strings(2, 1), [2]),
        (strings(2, 0xFFFFFFFF), [2]),
        (strings(2), [0]),
        (strings(2, 2), [1]),
        (strings(2)[:3], [1]),
        (b"", [1]),
        (strings(2) + b"\0\0", [1]),
    ):
        with pytest.raises(Refused, match="strings"):
            binary(TEXT, raw, shape, "BYTES")
    with pytest.raises(Refused, match="string 0 is not UTF-8"):
        binary(TEXT, b"\1\0\0\0\xff", [1], "BYTES")
    with pytest.raises(Refused, match="a BOOL is one byte, 0 or 1"):
        binary(TRUTH, b"\1\2", [2], "BOOL")
    assert binary(TRUTH, b"\1\0", [2], "BOOL").X["x"].tolist() == [True, False]


def test_what_an_answer_cannot_say_is_refused():
    for values in (np.array([1, np.inf], np.float32), np.array([-np.inf], np.float16)):
        with pytest.raises(Refused, match="ask for the output as bytes") as caught:
            write(Query(None, ("y",)), {"y": values})
        assert caught.value.status == 406
        as_bytes = Query(None, ("y",), binary=frozenset({"y"}))
        assert write(as_bytes, {"y": values}).body.endswith(values.tobytes())
    large = np.full(3, 3e38, np.float32)  # whose square is infinite
    assert b"3e+38" in write(Query(None, ("y",)), {"y": large}).body
    missing = np.array(["a", None], object)
    assert b'["a",null]' in write(Query(None, ("y",)), {"y": missing}).body
    with pytest.raises(Refused, match="ask for JSON"):
        write(Query(None, ("y",), binary=frozenset({"y"})), {"y": missing})


def test_times_are_texts_and_spans_seconds():
    times = np.array(["2026-01-31T12:00", "NaT"], "M8[s]")
    spans = np.array([1500, "NaT"], "m8[ms]")
    reply = write(Query(None, ("t", "s")), {"t": times, "s": spans})
    outputs = json.loads(reply.body)["outputs"]
    assert outputs[0]["datatype"] == "BYTES"
    assert outputs[0]["data"] == ["2026-01-31T12:00:00", None]
    assert outputs[1]["datatype"] == "FP64"
    assert outputs[1]["data"] == [1.5, None]


# Any bytes at all.

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=5),
    st.sampled_from(["X", "x", "FP32", "BYTES", "BOOL", "INT64", [1, 30], [0], [2, 2], -1, 1 << 62]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
KEYS = ["name", "shape", "datatype", "data", "parameters"]
TENSORS = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, VALUES))
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS | VALUES, max_size=3)},
    optional={"outputs": VALUES, "parameters": VALUES, "id": VALUES},
)
SIGNED = st.sampled_from(sorted(SIGNATURES))


def survives(body, headers, name):
    signature = SIGNATURES[name]
    try:
        query = read(body, headers, signature)
    except Refused as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.status in (400, 413, 415, 422)
        assert refusal.message
        return
    try:
        feeds = signature.coerce(query.X)
    except SignatureError:
        return
    answers = model_of(signature)._run(feeds, query.outputs, PLAIN)
    assert write(query, answers, "m", "1").status == 200


@settings(max_examples=examples(150))
@given(st.binary(max_size=80), st.none() | st.binary(max_size=4) | st.integers(0, 90), SIGNED)
@example(b"{}", 0, "an image")
def test_any_bytes_are_refused_or_read(body, length, name):
    headers = {}
    if length is not None:
        headers[HEADER] = length if isinstance(length, bytes) else b"%d" % length
    survives(body, headers, name)


@settings(max_examples=examples(200))
@given(REQUESTS, st.binary(max_size=40), st.booleans(), SIGNED)
def test_any_request_is_refused_or_read(made, tail, has_tail, name):
    head = json.dumps(made).encode()
    headers = {HEADER: b"%d" % len(head)} if has_tail else {}
    survives(head + tail if has_tail else head, headers, name)


@settings(max_examples=examples(150))
@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 1 << 40) | st.integers(0, 4), max_size=4),
    st.integers(-1, 1 << 33) | st.integers(0, 40),
    st.binary(max_size=40),
)
def test_forged_sizes_are_refused_or_read(datatype, shape, size, raw):
    head = request(tensor("x", datatype, shape, None, parameters={"binary_data_size": size}))
    survives(head + raw, {HEADER: b"%d" % len(head)}, "numbers")


def test_every_dtype_of_a_graph_has_a_datatype():
    assert {*DTYPES.values()} == {*GRAPH_DTYPES}


# A tensor that is called as one of its columns.

OUT = mk.TensorSpec("y", "float32", ("batch",))
MIXED = mk.Signature(
    (
        mk.TensorSpec(
            "any", "string", ("batch", 2), (mk.Column("any", "mixed"), mk.Column("text", "string"))
        ),
    ),
    (OUT,),
)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_whole_tensor_is_not_read_as_its_column_of_the_same_name(as_bytes):
    values = ["1.5", '"quoted"']
    told = {"name": "any", "datatype": "BYTES", "shape": [1, 2]}
    headers, tail = {}, b""
    if as_bytes:
        tail = b"".join(struct.pack("<I", len(text)) + text.encode() for text in values)
        told["parameters"] = {"binary_data_size": len(tail)}
    else:
        told["data"] = values
    head = json.dumps({"inputs": [told]}).encode()
    if as_bytes:
        headers = {v2.LENGTH_HEADER: b"%d" % len(head)}
    fed = MIXED.coerce(read(head + tail, headers, MIXED).X)
    expected = MIXED.coerce([{"any": 1.5, "text": '"quoted"'}])
    assert fed["any"].tolist() == expected["any"].tolist()  # and not without the quotes


def test_columns_are_read_as_such_where_a_tensor_is_called_as_one():
    columns = {"any": ['"a"', "1"], "text": ['"b"', "2"]}
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "data": values}
        for name, values in columns.items()
    ]
    fed = MIXED.coerce(read(json.dumps({"inputs": inputs}).encode(), {}, MIXED).X)
    expected = MIXED.coerce({"any": ["a", 1], "text": ['"b"', "2"]})
    assert fed["any"].tolist() == expected["any"].tolist()

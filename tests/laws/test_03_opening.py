"""Law 3. Opening a package never runs code from it, never reads a file it does not list, and every check fails closed."""

import contextlib

import pytest
from helpers.examples import examples
from helpers.packages import ALLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.errors import GraphError, PackageError, UntrustedError
from modelkit.package import scan


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_always_noticed(boosting_mk, data):
    raw = bytearray(boosting_mk.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PackageError):
        mk.load(bytes(raw))


X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])


def external(location, **keys):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16", **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(nodes=None, initializers=(), domain=""):
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "g", [X], [Y], list(initializers))
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@settings(max_examples=examples(300), deadline=None)
@given(junk=st.binary(max_size=200))
def test_bytes_that_are_no_graph_raise_nothing_but_graph_errors(junk):
    with contextlib.suppress(GraphError):
        scan.check_graph(junk, "model.onnx.data", 16)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data())
def test_a_damaged_graph_raises_nothing_but_graph_errors(data):
    raw = bytearray(model(initializers=[external("model.onnx.data")]).SerializeToString())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(GraphError):
        scan.check_graph(bytes(raw), "model.onnx.data", 16)


# --- What opens, and what does not.


def test_a_joblib_package_needs_a_digest_and_a_word(joblib_mk):
    digest = mk.inspect(joblib_mk).digest
    for options, missing in (
        ({}, ["digest=", "allow={'joblib'}"]),
        ({"digest": digest}, ["allow={'joblib'}"]),
        ({"allow": ALLOW}, ["digest="]),
        ({"digest": digest, "allow": ["com.example"]}, ["allow={'joblib'}"]),
    ):
        with pytest.raises(UntrustedError, match="runs whatever code its author") as caught:
            mk.load(joblib_mk, **options)
        assert len(caught.value.missing) == len(missing)
        assert all(word in str(caught.value) for word in missing)
    for allow in (ALLOW, ["joblib"], ("joblib", "com.example"), frozenset(ALLOW)):
        mk.load(joblib_mk, digest=f"sha256:{digest}", allow=allow).close()
        mk.load(joblib_mk, digest=["0" * 64, digest.upper()], allow=allow).close()

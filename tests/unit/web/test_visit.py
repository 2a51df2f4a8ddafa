"""Deadlines of requests reach models, and end what takes too long."""

import time

import onnx
from helpers.apps import INFER, summed, tensor
from helpers.client import Client

import modelkit as mk
from modelkit.types import Limits


def test_a_deadline_reaches_the_model():
    seen = []

    class Looking(mk.Wrapper):
        _call = None  # an App calls the async verbs

        def _acall(self, X, outputs, call):
            seen.append(call.deadline and call.deadline - time.monotonic())
            return self._inner._acall(X, outputs, call)

    app = mk.App({"sum": Looking(summed())}, limits=Limits(seconds=3000))
    with Client(app) as client:
        client.post(INFER, json=tensor())
        client.post(INFER, json=tensor() | {"parameters": {"timeout": 1_000_000_000}})
        client.post(INFER, json=tensor(), headers={"request-timeout": "800"})
        client.post(INFER, json=tensor(), headers={"x-envoy-expected-rq-timeout-ms": "600000"})
        client.post(INFER, json=tensor(), headers={"request-timeout": "6000"})
    assert seen[0] is None  # the App itself sees to its own
    for told, most in zip(seen[1:], (1000, 800, 600, 3000), strict=True):
        assert most - 100 < told <= most


def test_a_row_that_a_graph_goes_on_for_is_ended_and_holds_nobody_up(tmp_path):
    """It ran on the event loop for good: health, the limit of time and SIGTERM came to nothing."""
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 1])
        for name in "xy"
    )
    body = onnx.parser.parse_graph(
        """body (int64 i, bool on, float[batch, 1] a) => (bool more, float[batch, 1] b)
        { more = Identity(on) b = Mul(a, a) }"""
    )
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["whole"], to=onnx.TensorProto.INT64),
        onnx.helper.make_node("ReduceMax", ["whole"], ["trips"], keepdims=0),
        onnx.helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    opset = [onnx.helper.make_opsetid("", 18)]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y])
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    mk.save(proto, tmp_path / "looping.mk", name="looping", version="1")
    with mk.load(tmp_path / "looping.mk", device="cpu") as model, mk.Batcher(model) as batcher:
        assert mk.Meter(batcher).endless
        assert (batcher.plan.loop_rows, batcher.plan.loop_batch) == (0, 0)
        statuses = []
        for value, limits in ((3e10, Limits(seconds=0.5)), (1.0, Limits())):
            with Client(mk.App({"looping": batcher}, limits=limits)) as client:
                asked = {"inputs": {"x": [[value]]}}
                statuses.append(client.post("/models/looping/predict", json=asked).status)
    assert statuses == [504, 200]

"""Law 4. What was asked for is what runs: an explicit device that cannot be had is an error; `auto` says what it chose."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import DeviceError, UsageError
from modelkit.runtimes import devices as decide
from modelkit.runtimes import sessions

AZURE, CPU = "AzureExecutionProvider", "CPUExecutionProvider"
subsets = st.sets(st.sampled_from([*decide.PROVIDERS.values(), AZURE]))


@given(st.text(max_size=12))
def test_any_text_is_a_device_or_an_error(text):
    try:
        target = decide.parse_device(text)
    except UsageError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both ends are right
    else:
        assert target.short in decide.PROVIDERS


@given(subsets)
def test_auto_tries_what_is_compiled_in_by_rank_and_ends_on_the_cpu(compiled):
    chain = decide.device_chain("auto", compiled)
    names = [target.name for target in chain]
    assert names == [n for n in decide.AUTO if decide.parse_device(n).provider in compiled] + [
        "cpu"
    ]
    assert not {"tensorrt", "qnn", "webgpu", "openvino:NPU"} & set(names)
    assert AZURE not in {target.provider for target in chain}


@given(st.lists(st.sampled_from(decide.DEVICE_NAMES), min_size=1))
def test_a_list_is_tried_in_its_order(names):
    assert [target.name for target in decide.device_chain(names, [])] == names
    assert decide.device_chain(tuple(names), []) == decide.device_chain(names, [])


@given(st.sampled_from(decide.DEVICE_NAMES), subsets)
def test_what_is_not_compiled_in_says_what_to_install(name, compiled):
    target = decide.parse_device(name)
    obstacle = decide.not_compiled(target, compiled, "1.99")
    assert (obstacle is None) == (target.provider in compiled)
    if obstacle is not None:
        assert "onnxruntime 1.99" in obstacle
        assert "pip install" in obstacle
    assert name == "cpu" or target.short in decide.WHEELS


# What this machine has.


@pytest.fixture(scope="module")
def devices():
    return mk.devices()


def test_an_explicit_device_runs_there_or_raises_the_reason(devices, dense_mk):
    x = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    expected = mk.load(dense_mk, device="cpu").predict(x)
    for device in devices:
        if device.usable:
            with mk.load(dense_mk, device=device.name) as model:
                assert (model.placement.provider, model.placement.device) == (
                    device.provider,
                    device.name,
                )
                np.testing.assert_allclose(model.predict(x), expected, rtol=1e-3, atol=1e-3)
        else:
            with pytest.raises(DeviceError) as caught:
                mk.load(dense_mk, device=device.name)
            assert device.reason in str(caught.value)
            assert list(caught.value.obstacles) == [device.name]


def test_auto_says_what_it_chose_and_logs_where_a_gpu_was_passed_by(devices, dense_mk, caplog):
    usable = [
        name
        for name in decide.AUTO
        if any(device.name == name and device.usable for device in devices)
    ]
    compiled = len(decide.device_chain("auto", sessions.providers())) > 1
    with caplog.at_level(logging.WARNING), mk.load(dense_mk) as model:
        placement = model.placement
    assert placement.requested == decide.device_chain("auto", sessions.providers())[0].name
    if usable:
        assert placement.device == usable[0]
        assert not caplog.records
        return
    assert (placement.provider, placement.device, placement.nodes) == (CPU, "cpu", ())
    assert placement.reason.startswith("auto took the CPU")
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("modelkit", logging.WARNING)
    ] * compiled
    assert [record.getMessage() for record in caplog.records] == [placement.reason] * compiled

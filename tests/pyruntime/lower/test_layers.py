"""Layers in the forms people's files have: weights, biases, sharing, fallbacks; and the float path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_nets import Net, run_onnx

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.lower import lower
from pyruntime.lower.quantization import Params
from pyruntime.program import Program
from pyruntime.reference import run

RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 8)).astype(np.float32)
INTEGERS = RNG.integers(-100, 101, (5, 8))


def _gemm_net(
    weight: np.ndarray, scale: Any, zero_point: Any, bias: Callable[[Net], str], **more: Any
) -> Net:
    """x -> Q/DQ -> Gemm(DQ(weight), bias) -> Q."""
    net = Net(0)
    x = net.qdq(net.input([3, 8]), 0.02113, 128)
    w = net.op(
        "DequantizeLinear",
        net.constant(weight),
        net.constant(np.asarray(scale, np.float32)),
        net.constant(np.asarray(zero_point, weight.dtype)),
        **more,
    )
    y = net.op("Gemm", x, w, bias(net), transB=1)
    net.output(net.q(y, 0.1037, 128), 2)
    return net


def _compare(net: Net, feed: np.ndarray = X) -> tuple[Program, list[str]]:
    model, notes = net.model(), []
    program = lower(load(model), notes=notes)
    (expected,) = run_onnx(model, {"x": feed})
    (actual,) = run(program, {"x": feed}).values()
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1
    assert len(np.unique(expected)) > 4
    return program, notes


def _float_bias(net: Net) -> str:
    return net.bias(5)


def _int32_bias(net: Net) -> str:
    codes = net.rng.integers(-5000, 5000, 5).astype(np.int32)
    names = [
        net.constant(codes),
        net.constant(np.full(5, 2e-4, np.float32)),
        net.constant(np.zeros(5, np.int32)),
    ]
    return str(net.op("DequantizeLinear", *names, axis=0))


def _single_bias(net: Net) -> str:
    return net.constant(np.array([0.7], np.float32))


WEIGHTS: dict[str, tuple[np.ndarray, Any, Any, dict[str, Any]]] = {
    "s8 per tensor": (INTEGERS.astype(np.int8), 0.01, 0, {}),
    "s8 per channel": (INTEGERS.astype(np.int8), RNG.uniform(0.005, 0.02, 5), np.zeros(5), {"axis": 0}),
    "u8 around 128": ((INTEGERS + 128).astype(np.uint8), 0.01, 128, {}),
    "u8 that fits": ((INTEGERS + 110).astype(np.uint8), np.full(5, 0.01), np.full(5, 110), {"axis": 0}),
}


@pytest.mark.parametrize("bias", [_float_bias, _int32_bias, _single_bias], ids=lambda b: b.__name__)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_and_biases(name: str, bias: Callable[[Net], str]) -> None:
    weight, scale, zero_point, more = WEIGHTS[name]
    program, notes = _compare(_gemm_net(weight, scale, zero_point, bias, **more))
    assert notes == [] and [node.op for node in program.nodes] == ["quantize", "dense"]
    stored = program.constants[program.nodes[1].inputs[1]].array
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, INTEGERS)


FALLBACKS: dict[str, tuple[np.ndarray, Any, Any, dict[str, Any], str]] = {
    "zero point": (np.arange(40, dtype=np.uint8).reshape(5, 8) * 6, 0.01, 20, {}, "zero point"),
    "axis": (INTEGERS.astype(np.int8), RNG.uniform(0.005, 0.02, 8), np.zeros(8), {"axis": 1}, "another axis"),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_weights_without_integer_form_run_in_float_and_are_noted(name: str) -> None:
    weight, scale, zero_point, more, reason = FALLBACKS[name]
    program, notes = _compare(_gemm_net(weight, scale, zero_point, _float_bias, **more))
    assert [node.op for node in program.nodes] == ["quantize", "dequantize", "dense", "quantize"]
    assert len(notes) == 1 and "Gemm" in notes[0] and reason in notes[0] and "float32" in notes[0]
    assert program.constants[program.nodes[2].inputs[1]].scheme == "f32 dequantized"


def test_float_weight_is_not_quantized() -> None:
    """DQ input, float weight, no Q behind: nobody asked for int8."""
    net = Net(0)
    x = net.qdq(net.input([2, 6, 5, 5]), 0.02, 128)
    net.output(net.conv(x, 6, 4, dq=False))
    model, notes = net.model(), []
    program = lower(load(model), notes=notes)
    assert [node.op for node in program.nodes] == ["quantize", "dequantize", "conv"]
    assert program.constants[program.nodes[2].inputs[1]].array.dtype == np.float32
    assert len(notes) == 1 and "its weight is not" in notes[0]
    feed = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    (expected,) = run_onnx(model, {"x": feed})
    (actual,) = run(program, {"x": feed}).values()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_bias_far_beyond_int32() -> None:
    """Weights of 1e-7 and a bias of 5: the bias in steps of s_x * s_w would need 34 bits."""
    net = Net(0)
    x = net.qdq(net.input([3, 8]), 0.5, 128)
    weight = net.constant(INTEGERS[:2].astype(np.int8))
    scale, zero = net.constant(np.full(2, 7.8e-10, np.float32)), net.constant(np.zeros(2, np.int8))
    w = net.op("DequantizeLinear", weight, scale, zero, axis=0)
    y = net.op("Gemm", x, w, net.constant(np.array([5, -4.5], np.float32)), transB=1)
    net.output(net.q(y, 0.05, 128), 2)
    program = lower(load(net.model()))
    (actual,) = run(program, {"x": X}).values()
    np.testing.assert_array_equal(actual, np.broadcast_to([228, 38], (3, 2)))


def test_scales_whose_product_is_subnormal_or_huge() -> None:
    for w_scale, out_scale, expected in ((1e-38, 1.0, 131), (1e30, 1e-30, None)):
        net = Net(0)
        x = net.qdq(net.input([3, 8]), 1e-5, 128)
        w = net.op(
            "DequantizeLinear",
            net.constant(INTEGERS[:1].astype(np.int8)),
            net.constant(np.float32(w_scale)),
            net.constant(np.int8(0)),
        )
        y = net.op("Gemm", x, w, net.constant(np.array([3], np.float32) * (expected is not None)), transB=1)
        net.output(net.q(y, out_scale, 128), 2)
        model = net.model()
        (actual,) = run(lower(load(model)), {"x": X}).values()
        (defined,) = run_onnx(model, {"x": X})
        np.testing.assert_array_equal(actual, defined)
        assert expected is None or (actual == expected).all()


def test_sums_beyond_int32_fall_back() -> None:
    net = Net(0)
    depth = 70000
    x = net.qdq(net.input([1, depth]), 0.02, 0)
    w = net.op(
        "DequantizeLinear",
        net.constant(np.full((1, depth), 127, np.int8)),
        net.constant(np.float32(0.01)),
        net.constant(np.int8(0)),
    )
    net.output(net.op("Gemm", x, w, transB=1))
    notes: list[str] = []
    program = lower(load(net.model()), notes=notes)
    assert "int32" in notes[0]
    (actual,) = run(program, {"x": np.full((1, depth), 9, np.float32)}).values()
    np.testing.assert_allclose(actual, 1.27 * 0.02 * 255 * depth, rtol=1e-5)


def test_shared_weight_is_stored_once_and_a_value_may_be_called_like_it() -> None:
    net = Net(0)
    x = net.qdq(net.input([2, 6, 5, 5]), 0.02, 128)
    w, b = net.weight((6, 6, 1, 1)), net.bias(6)
    first = net.qdq(net.op("Conv", x, w, b), 0.021, 128)
    net.output(net.q(net.op("Conv", first, w, b), 0.02, 128), 2)
    for (
        node
    ) in net.nodes:  # an intermediate value takes the name "b0", the bias the name of a weight's sibling
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = "b0" if name == first else name
    model = net.model()
    program = lower(load(model))
    convs = [node for node in program.nodes if node.op == "conv"]
    assert len(convs) == 2 and convs[0].inputs[1] == convs[1].inputs[1]
    assert sum(constant.array.dtype == np.int8 for constant in program.constants.values()) == 1
    feed = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    (actual,), (expected,) = run(program, {"x": feed}).values(), run_onnx(model, {"x": feed})
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


def test_nothing_is_fused_across_a_value_with_other_readers() -> None:
    """The float result of the Conv is an output, or feeds two Qs: it is computed once, in float."""
    net = Net(0)
    x = net.qdq(net.input([2, 6, 5, 5]), 0.02, 128)
    conv = net.conv(x, 6, 4)
    net.output(conv)
    net.output(net.q(net.op("Relu", conv), 0.01, 0), 2)
    net.output(net.q(conv, 0.02, 128), 2)
    model = net.model()
    program = lower(load(model))
    names = [node.op for node in program.nodes]
    assert names.count("conv") == 1 and names.count("quantize") == 3
    feed = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    expected, actual = run_onnx(model, {"x": feed}), list(run(program, {"x": feed}).values())
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-5)
    for mine, theirs in zip(actual[1:], expected[1:], strict=True):
        assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1


def test_residual_that_broadcasts_or_is_read_twice_is_an_add_of_its_own() -> None:
    for case in ("broadcast", "read twice"):
        net = Net(0)
        x = net.qdq(net.input([2, 6, 5, 5]), 0.02, 128)
        conv = net.qdq(net.conv(x, 6, 6), 0.02, 128)
        other = net.qdq(net.op("GlobalAveragePool", x), 0.01, 128) if case == "broadcast" else x
        y = net.op("Add", conv, other)
        net.output(net.q(y, 0.021, 128), 2)
        if case == "read twice":
            net.output(net.q(net.op("Sigmoid", conv), 1 / 255, 0), 2)
        model = net.model()
        program = lower(load(model))
        assert sum(node.op == "add" for node in program.nodes) == 1
        feed = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
        for mine, theirs in zip(
            run(program, {"x": feed}).values(), run_onnx(model, {"x": feed}), strict=True
        ):
            assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1


def test_chain_of_tables_is_one_table() -> None:
    net = Net(0)
    x = net.qdq(net.input([3, 8]), 0.02113, 128)
    y = net.qdq(net.op("Tanh", net.qdq(net.op("HardSwish", x), 0.019, 20)), 1 / 127, 128)
    net.output(net.q(y, 0.0123, 100), 2)
    model = net.model()
    program = lower(load(model))
    assert [node.op for node in program.nodes] == ["quantize", "lut"]
    assert sum(constant.array.shape == (256,) for constant in program.constants.values()) == 1
    (actual,), (expected,) = run(program, {"x": X}).values(), run_onnx(model, {"x": X})
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


def test_quantized_softmax_is_noted() -> None:
    net = Net(0)
    x = net.qdq(net.input([3, 8]), 0.02, 128)
    net.output(net.q(net.op("Softmax", x), 1 / 255, 0), 2)
    program, notes = _compare(net)
    assert [node.op for node in program.nodes] == ["quantize", "dequantize", "softmax", "quantize"]
    assert len(notes) == 1 and "Softmax" in notes[0]


def test_activation_without_a_pair_before_it_is_noted() -> None:
    net = Net(0)
    x = net.qdq(net.input([2, 6, 5, 5]), 0.02, 128)
    net.output(net.q(net.op("Sigmoid", net.conv(x, 6, 4)), 1 / 255, 0), 2)
    program, notes = _compare(net, np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32))
    assert [node.op for node in program.nodes] == ["quantize", "conv", "unary", "quantize"]
    assert len(notes) == 1 and "Sigmoid" in notes[0] and "not quantized" in notes[0]


def test_relu_of_nan_stays_nan_in_float() -> None:
    net = Net(0)
    net.output(net.op("Relu", net.conv(net.input([1, 1, 2, 2]), 1, 1, kernel=1, dq=False)))
    program = lower(load(net.model()))
    (actual,) = run(program, {"x": np.array([[[[np.nan, 1], [2, 3]]]], np.float32)}).values()
    assert np.isnan(actual[0, 0, 0, 0]) and np.isfinite(actual[0, 0, 1]).all()


# ---------------------------------------------------------------- float path


def _block(net: Net, x: str) -> str:
    y = net.op("Relu", net.conv(x, 6, 6, dq=False))
    y = net.op("Add", net.conv(y, 6, 6, dq=False), x)
    return net.op("Clip", y, net.constant(np.float32(-1)), net.constant(np.float32(1)))


def _head(net: Net, x: str) -> str:
    y = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.op("Gemm", y, net.weight((3, 6), dq=False), net.bias(3), transB=1)


def _attention(net: Net, x: str) -> str:
    tokens = net.op("Reshape", x, net.constant(np.array([0, 6, 25], np.int64)))
    q = net.op("Add", net.op("MatMul", tokens, net.weight((25, 4), 1, dq=False)), net.bias(4))
    k = net.op("Add", net.bias(4), net.op("MatMul", tokens, net.weight((25, 4), 1, dq=False)))
    scores = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])))
    return net.op(
        "ReduceMean", net.op("MatMul", scores, tokens), net.constant(np.array([1], np.int64)), keepdims=0
    )


FLOAT_NETS: dict[str, tuple[Callable[[Net, str], str], list[str]]] = {
    "block": (_block, ["conv", "conv"]),
    "head": (_head, ["average_pool", "flatten", "dense"]),
    "attention": (
        _attention,
        ["reshape", "dense", "dense", "transpose", "matmul", "softmax", "matmul", "reduce_mean"],
    ),
    "prelu": (lambda n, x: n.op("PRelu", x, n.constant(np.full((6, 1, 1), 0.3, np.float32))), ["prelu"]),
    "scale": (
        lambda n, x: n.op("Div", n.op("Mul", x, x), n.constant(np.full((6, 1, 1), 3, np.float32))),
        ["mul", "div"],
    ),
    "linear resize": (
        lambda n, x: n.op("Resize", x, "", n.constant(np.array([1, 1, 2, 2], np.float32)), mode="linear"),
        ["resize"],
    ),
    "split": (
        lambda n, x: n.op(
            "Concat", *n.op("Split", x, n.constant(np.array([2, 4])), axis=1, outputs=2)[::-1], axis=1
        ),
        ["slice", "slice", "concat"],
    ),
}


@pytest.mark.parametrize("name", FLOAT_NETS)
def test_float_networks(name: str) -> None:
    build, ops = FLOAT_NETS[name]
    net = Net(0)
    net.output(build(net, net.input(["N", 6, 5, 5])))
    model, notes = net.model(), []
    program = lower(load(model), notes=notes)
    assert [node.op for node in program.nodes] == ops and notes == []
    feed = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    (actual,), (expected,) = run(program, {"x": feed}).values(), run_onnx(model, {"x": feed})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_float_residual_rides_on_the_layer() -> None:
    net = Net(0)
    net.output(_block(net, net.input(["N", 6, 5, 5])))
    program = lower(load(net.model()))
    first, second = program.nodes
    assert first.attributes["lo"] == 0 and "hi" not in first.attributes
    assert second.inputs[3] == "x" and (second.attributes["lo"], second.attributes["hi"]) == (-1, 1)


# ---------------------------------------------------------------- errors


def test_errors_name_the_item() -> None:
    net = Net(0)
    net.output(net.op("Relu", net.input([2, 3])))
    with pytest.raises(ModelError, match="'nowhere'"):
        lower(load(net.model()), ["nowhere"])
    net = Net(0)
    x = net.input([2, 3])
    scale, zero = net.constant(np.full(3, 0.1, np.float32)), net.constant(np.zeros(3, np.uint8))
    y = net.op("QuantizeLinear", x, scale, zero, axis=1)
    net.output(net.op("DequantizeLinear", y, scale, zero, axis=1))
    with pytest.raises(ModelError, match=r"DequantizeLinear.*one scale"):
        lower(load(net.model()))


def test_bounds_are_what_quantize_gives() -> None:
    params = Params(0.1 + 0.025, 7)
    for x in (0.0, 6.0, -1.0, 0.0625, 1e30, -1e30):
        assert params.bound(x) == int(np.clip(np.rint(np.float32(x) / np.float32(0.125)) + 7, 0, 255))

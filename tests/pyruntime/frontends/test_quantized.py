"""Quantized models: QOperator forms become Q/DQ, padding is the zero point, parameters are complete."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import assert_same, model_of, node_of, normal, ops, run

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.graph import constant, get_int, get_ints, to_proto, to_standard

MS = "com.microsoft"


def make(*args, **kwargs):
    return helper.make_node(*args, **kwargs)


def u8(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def s8(*shape, seed=0):
    """Weights of 7 bits: without VNNI, ONNX Runtime adds pairs of u8 * s8 products in saturating 16 bits."""
    return np.random.default_rng(seed).integers(-64, 64, shape).astype(np.int8)


PARAMETERS = {
    "xs": np.float32(0.02),
    "xz": np.uint8(128),
    "as": np.float32(0.03),
    "az": np.uint8(100),
    "ys": np.float32(0.05),
    "yz": np.uint8(120),
    "ws": np.float32(0.01),
    "wz": np.int8(0),
}


def quantized(nodes, inputs, constants, feeds, output=TensorProto.UINT8, opset=13):
    """Canonical form of nodes over u8 tensors, whose result may differ from the fused one by one step."""
    proto = model_of(
        nodes,
        inputs,
        ["y"],
        {name: np.asarray(array) for name, array in {**PARAMETERS, **constants}.items()},
        opset=opset,
        input_type=TensorProto.UINT8,
        output_type=output,
        domains={MS: 1},
    )
    return assert_same(proto, feeds, rtol=0, atol=1)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_qlinear_conv(per_channel, with_bias):
    constants = {"w": s8(4, 3, 3, 3), "b": np.array([1000, -2000, 0, 77], np.int32)}
    if per_channel:
        constants |= {"ws": np.float32([0.01, 0.02, 0.005, 0.1]), "wz": np.zeros(4, np.int8)}
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if with_bias else [])]
    node = make("QLinearConv", inputs, ["y"], pads=[1, 1, 2, 2], strides=[2, 1])
    model = quantized([node], {"x": (1, 3, 7, 6)}, constants, {"x": u8(1, 3, 7, 6)})
    assert ops(model).count("DequantizeLinear") == (3 if with_bias else 2)
    if with_bias:
        bias = node_of(model, "Conv").inputs[2].producer()
        scale = constant(bias.inputs[1])
        np.testing.assert_allclose(scale, np.float32(0.02) * constants.get("ws", PARAMETERS["ws"]), rtol=1e-6)
        assert scale.shape == ((4,) if per_channel else ())


def test_padding_of_a_quantized_conv_is_the_zero_point():
    """Input equal to its zero point everywhere: edges and centre give the bias alone."""
    constants = {"w": s8(2, 1, 3, 3), "b": np.array([5000, -3000], np.int32)}
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = make("QLinearConv", inputs, ["y"], pads=[1, 1, 2, 2])
    x = np.full((1, 1, 5, 5), 128, np.uint8)
    model = quantized([node], {"x": (1, 1, 5, 5)}, constants, {"x": x})
    assert get_ints(node_of(model, "Conv"), "pads") == [1, 1, 2, 2]


@pytest.mark.parametrize("value", [128, 0])
def test_pad_of_a_quantized_tensor_merges_only_at_the_zero_point(value):
    nodes = [
        make("Pad", ["x", "p", "v"], ["q"]),
        make("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], strides=[2, 2]),
    ]
    constants = {"p": np.array([0, 0, 1, 2, 0, 0, 1, 2], np.int64), "v": np.uint8(value), "w": s8(3, 2, 5, 5)}
    model = quantized(nodes, {"x": (1, 2, 9, 9)}, constants, {"x": u8(1, 2, 9, 9)})
    if value == 128:
        assert "Pad" not in ops(model) and get_ints(node_of(model, "Conv"), "pads") == [1, 2, 1, 2]
    else:
        assert "Pad" in ops(model)


def test_pad_between_dequantize_and_quantize_merges():
    nodes = [
        make("DequantizeLinear", ["x", "xs", "xz"], ["f"]),
        make("Pad", ["f", "p"], ["g"]),
        make("QuantizeLinear", ["g", "xs", "xz"], ["h"]),
        make("DequantizeLinear", ["h", "xs", "xz"], ["i"]),
        make("Conv", ["i", "w"], ["c"]),
        make("QuantizeLinear", ["c", "ys", "yz"], ["y"]),
    ]
    constants = {"p": np.array([0, 0, 1, 1, 0, 0, 0, 2], np.int64), "w": normal(3, 2, 3, 3)}
    model = quantized(nodes, {"x": (1, 2, 6, 6)}, constants, {"x": u8(1, 2, 6, 6)})
    assert ops(model) == ["DequantizeLinear", "Conv", "QuantizeLinear"]
    assert get_ints(node_of(model, "Conv"), "pads") == [1, 1, 0, 2]


@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_matmul_and_qgemm(per_channel):
    constants = {"w": s8(6, 4), "b": np.array([100, -200, 0, 7], np.int32)}
    if per_channel:
        constants |= {"ws": np.float32([0.01, 0.02, 0.005, 0.1]), "wz": np.zeros(4, np.int8)}
    matmul = make("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])
    model = quantized([matmul], {"x": (3, 6)}, constants, {"x": u8(3, 6)})
    weight = node_of(model, "Gemm").inputs[1].producer()
    np.testing.assert_array_equal(constant(weight.inputs[0]), constants["w"].T)
    assert not per_channel or get_int(weight, "axis", -1) == 0
    gemm = make("QGemm", ["x", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"], ["y"], domain=MS, transB=0)
    quantized([gemm], {"x": (3, 6)}, constants, {"x": u8(3, 6)})
    transposed = {**constants, "w": np.ascontiguousarray(constants["w"].T)}
    gemm = make("QGemm", ["x", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"], ["y"], domain=MS, transB=1)
    quantized([gemm], {"x": (3, 6)}, transposed, {"x": u8(3, 6)})


UNARY = {
    "QLinearSigmoid": ("Sigmoid", {}),
    "QLinearLeakyRelu": ("LeakyRelu", {"alpha": 0.1}),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", {}),
    "QLinearAveragePool": ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "QLinearSoftmax": ("Softmax", {"axis": 1, "opset": 13}),
}


@pytest.mark.parametrize("op", UNARY)
def test_qlinear_unary(op):
    float_op, attributes = UNARY[op]
    node = make(op, ["x", "xs", "xz", "ys", "yz"], ["y"], domain=MS, **attributes)
    model = quantized([node], {"x": (1, 3, 6, 6)}, {}, {"x": u8(1, 3, 6, 6)})
    assert ops(model) == ["DequantizeLinear", float_op, "QuantizeLinear"]


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_qlinear_binary(op):
    node = make(op, ["x", "xs", "xz", "a", "as", "az", "ys", "yz"], ["y"], domain=MS)
    feeds = {"x": u8(1, 3, 4, 4), "a": u8(1, 3, 4, 4, seed=1)}
    quantized([node], {"x": (1, 3, 4, 4), "a": (1, 3, 4, 4)}, {}, feeds)


def test_qlinear_concat():
    node = make("QLinearConcat", ["ys", "yz", "x", "xs", "xz", "a", "as", "az"], ["y"], domain=MS, axis=1)
    feeds = {"x": u8(1, 3, 4, 4), "a": u8(1, 2, 4, 4, seed=1)}
    quantized([node], {"x": (1, 3, 4, 4), "a": (1, 2, 4, 4)}, {}, feeds)


def test_parameters_are_complete_scalars():
    nodes = [
        make("QuantizeLinear", ["x", "s"], ["q"]),
        make("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    proto = model_of(nodes, {"x": (2, 3)}, ["y"], {"s": np.float32([0.1])})
    model = assert_same(proto, {"x": normal(2, 3)}, rtol=0, atol=0)
    for node in model.graph:
        assert [constant(value).shape for value in node.inputs[1:]] == [(), ()]
        assert constant(node.inputs[2]).dtype == np.uint8


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scale_must_be_finite_and_positive(scale):
    nodes = [
        make("QuantizeLinear", ["x", "s"], ["q"], name="q1"),
        make("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    with pytest.raises(ModelError, match=r"q1.*finite and greater than 0"):
        load(model_of(nodes, {"x": (2, 3)}, ["y"], {"s": np.float32(scale)}))


def test_float_weight_followed_by_quantize_is_quantized_exactly_like_onnx():
    """Halves round to even, values saturate."""
    weight = np.float32([[0.25, 0.75, 1.25, 1.75], [-100, 100, -0.25, -0.75]])
    nodes = [
        make("QuantizeLinear", ["w", "s", "z"], ["q"]),
        make("DequantizeLinear", ["q", "s", "z"], ["d"]),
        make("Gemm", ["x", "d"], ["y"], transB=1),
    ]
    constants = {"w": weight, "s": np.float32(0.5), "z": np.int8(0)}
    model = assert_same(model_of(nodes, {"x": (3, 4)}, ["y"], constants), {"x": normal(3, 4)})
    integers = constant(node_of(model, "Gemm").inputs[1].producer().inputs[0])
    np.testing.assert_array_equal(integers, [[0, 2, 2, 4], [-128, 127, 0, -2]])


def test_weight_only_int4_in_blocks_keeps_its_blocks():
    import ml_dtypes

    weight = np.random.default_rng(0).integers(-8, 8, (6, 8)).astype(ml_dtypes.int4)
    scales = np.abs(normal(6, 2)) + np.float32(0.1)
    nodes = [
        make("DequantizeLinear", ["w", "s", "z"], ["d"], axis=1, block_size=4),
        make("Gemm", ["x", "d"], ["y"], transB=1),
    ]
    constants = {"w": weight, "s": scales, "z": np.zeros((6, 2), ml_dtypes.int4)}
    proto = model_of(nodes, {"x": (3, 8)}, ["y"], constants, opset=21, ir_version=10)
    model = assert_same(proto, {"x": normal(3, 8)})
    assert get_int(node_of(model, "DequantizeLinear"), "block_size", 0) == 4


def test_quantized_weight_of_two_layers_in_both_orientations():
    """x W and h W^T with one int8 W: each layer gets its own orientation, the other one is not disturbed."""
    nodes = [
        make("DequantizeLinear", ["w", "ws", "wz"], ["d"], axis=0),
        make("Gemm", ["x", "d"], ["h"], transB=0),
        make("Gemm", ["h", "d"], ["y"], transB=1),
    ]
    constants = {"w": s8(5, 4), "ws": np.float32([0.1, 0.2, 0.3, 0.4, 0.5]), "wz": np.zeros(5, np.int8)}
    model = assert_same(model_of(nodes, {"x": (3, 5)}, ["y"], constants), {"x": normal(3, 5)})
    assert ops(model).count("Gemm") == 2


def dynamic(op, weight, zero_point, scale, **attributes):
    """What ONNX Runtime's quantize_dynamic makes of one layer."""
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quant"),
        make("Mul", ["s", "w_scale"], ["scales"]),
        make(op, ["q", "w", "z", "w_zero"], ["i"], name="layer", **attributes),
        make("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make("Mul", ["f", "scales"], ["y"]),
    ]
    shape = (2, 5, weight.shape[0]) if op == "MatMulInteger" else (2, weight.shape[1], 6, 6)
    proto = model_of(nodes, {"x": shape}, ["y"], {"w": weight, "w_zero": zero_point, "w_scale": scale})
    return proto, normal(*shape)


@pytest.mark.parametrize(
    ("op", "per_channel"), [("MatMulInteger", False), ("MatMulInteger", True), ("ConvInteger", False)]
)
def test_dynamically_quantized_layers_become_float(op, per_channel):
    weight, attributes = (u8(8, 4), {}) if op == "MatMulInteger" else (u8(4, 3, 3, 3), {"pads": [1, 1, 1, 1]})
    zero_point = np.array([120, 130, 128, 125], np.uint8) if per_channel else np.array(128, np.uint8)
    scale = np.array([0.01, 0.02, 0.03, 0.04], np.float32) if per_channel else np.array(0.02, np.float32)
    proto, x = dynamic(op, weight, zero_point, scale, **attributes)
    model = load(proto)
    layer = node_of(model, "Gemm" if op == "MatMulInteger" else "Conv")
    rows = weight.T if op == "MatMulInteger" else weight
    spread = [-1] + [1] * (rows.ndim - 1)
    zeros, scales = (np.broadcast_to(v, 4).astype(np.float32).reshape(spread) for v in (zero_point, scale))
    assert np.array_equal(constant(layer.inputs[1]), (rows - zeros) * scales)
    (exact,) = run(proto, {"x": x})
    (got,) = run(to_proto(to_standard(model)), {"x": x})
    # Half a level of x for every weight of an output.
    bound = np.abs((rows - zeros) * scales).reshape(4, -1).sum(1).max() * (x.max() - x.min()) / 255 / 2
    assert 0 < np.abs(got - exact).max() <= bound


def test_embeddings_of_a_dynamically_quantized_model_become_float():
    proto, _ = dynamic("MatMulInteger", u8(8, 4), np.array(128, np.uint8), np.array(0.02, np.float32))
    table, scale, zero = u8(10, 8, seed=1), np.array(0.5, np.float32), np.array(7, np.uint8)
    nodes = [
        make("Gather", ["table", "ids"], ["rows"], axis=0),
        make("DequantizeLinear", ["rows", "t_scale", "t_zero"], ["x"]),
        *proto.graph.node,
    ]
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    constants |= {"table": table, "t_scale": scale, "t_zero": zero}
    model = load(model_of(nodes, {"ids": (2, 5)}, ["y"], constants, input_type=TensorProto.INT64))
    assert [node.op_type for node in model.graph] == ["Gather", "Gemm"]
    want = (table.astype(np.float32) - 7) * np.float32(0.5)
    assert np.array_equal(constant(node_of(model, "Gather").inputs[0]), want)

"""Integer operators against the QDQ definition: at most one step of the output scale, and rarely that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx_nets import Net, run_onnx

from pyruntime.frontends.onnx import load
from pyruntime.lower import lower
from pyruntime.pack import dumps, read
from pyruntime.program import Program
from pyruntime.reference import run

OUT_SCALE = 0.01937  # no simple ratio to the other scales: exact ties would round either way


def _conv_relu(net: Net, x: str) -> str:
    return net.op("Relu", net.conv(x, 6, 8))


def _conv_clip(net: Net, x: str) -> str:
    conv = net.conv(x, 6, 8, strides=[2, 2], pads=[0, 0, 1, 1])
    return net.op("Clip", conv, net.constant(np.float32(-0.11)), net.constant(np.float32(1.5)))


def _residual(net: Net, x: str) -> str:
    conv = net.qdq(net.conv(x, 6, 6), 0.02, 110)
    return net.op("Relu", net.op("Add", conv, x))


def _residual_of_relu(net: Net, x: str) -> str:
    conv = net.qdq(net.op("Relu", net.conv(x, 6, 6)), 0.015, 0)
    return net.op("Add", x, conv)


def _two_convs(net: Net, x: str) -> str:
    return net.op(
        "Add", net.qdq(net.conv(x, 6, 5), 0.02, 110), net.qdq(net.conv(x, 6, 5, kernel=1), 0.025, 140)
    )


def _squeeze_excite(net: Net, x: str) -> str:
    pooled = net.qdq(net.op("GlobalAveragePool", x), 0.004, 128)
    gate = net.qdq(net.op("HardSigmoid", net.qdq(net.conv(pooled, 6, 6, kernel=1), 0.02, 128)), 1 / 255, 0)
    return net.op("Mul", x, gate)


def _average(net: Net, x: str) -> str:
    return net.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def _average_include(net: Net, x: str) -> str:
    return net.op("AveragePool", x, kernel_shape=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1)


def _mean(net: Net, x: str) -> str:
    return net.op("ReduceMean", x, net.constant(np.array([2, 3], np.int64)), keepdims=0)


def _concat(net: Net, x: str) -> str:
    return net.op("Concat", net.qdq(net.conv(x, 6, 4), 0.013, 100), x, axis=1)


def _depthwise(net: Net, x: str) -> str:
    return net.conv(x, 6, 6, group=6, dilations=[2, 2], pads=[2] * 4)


def _grouped(net: Net, x: str) -> str:
    return net.conv(x, 6, 8, group=2)


def _gemm(net: Net, x: str) -> str:
    flat = net.op("Flatten", x)
    return net.op("Relu", net.op("Gemm", flat, net.weight((9, 6 * 9 * 7), scale=5e-4), net.bias(9), transB=1))


def _matmul(net: Net, x: str) -> str:
    return net.op("Add", net.op("MatMul", x, net.weight((7, 5), axis=1, scale=4e-3)), net.bias(5))


def _sub(net: Net, x: str) -> str:
    return net.op("Sub", net.qdq(net.conv(x, 6, 6), 0.02, 110), x)


def _add_constant(net: Net, x: str) -> str:
    codes = net.constant(net.rng.integers(0, 256, (6, 1, 1)).astype(np.uint8))
    return net.op("Add", x, net.dq(codes, 0.01, 99))


Builder = Callable[[Net, str], str]
NETS: list[Builder] = [
    _conv_relu,
    _conv_clip,
    _residual,
    _residual_of_relu,
    _two_convs,
    _squeeze_excite,
    _average,
    _average_include,
    _mean,
    _concat,
    _depthwise,
    _grouped,
    _gemm,
    _matmul,
    _sub,
    _add_constant,
]
EXPECTED_OPS = {
    "_conv_relu": {"conv": 1},
    "_residual": {"conv": 1},
    "_residual_of_relu": {"conv": 1},
    "_two_convs": {"conv": 2},
    "_squeeze_excite": {"average_pool": 1, "conv": 1, "lut": 1, "mul": 1},
    "_mean": {"average_pool": 1, "squeeze": 1},
    "_concat": {"conv": 1, "lut": 2, "concat": 1},
    "_gemm": {"flatten": 1, "dense": 1},
    "_matmul": {"dense": 1},
    "_sub": {"conv": 1, "add": 1},
    "_add_constant": {"add": 1},
}


def _quantized_net(build: Builder, seed: int, signed: bool = False) -> tuple[Net, str]:
    net = Net(seed, signed)
    x = net.qdq(net.input(["N", 6, 9, 7]), 0.02113, 125)
    y = net.q(build(net, x), OUT_SCALE, 120)
    net.output(y, 3 if signed else 2)
    return net, y


def _ops(program: Program) -> dict[str, int]:
    names = [node.op for node in program.nodes]
    return {name: names.count(name) for name in set(names)}


@pytest.mark.parametrize("build", NETS, ids=lambda b: b.__name__)
def test_within_one_step(build: Builder) -> None:
    off = total = 0
    for seed in range(3):
        net, y = _quantized_net(build, seed)
        model, notes = net.model(), []
        program = lower(load(model), notes=notes)
        assert notes == []
        assert all(program.values[name].dtype == "u8" for name in program.values if name != "x")
        program = read(dumps(program))
        x = np.random.default_rng(seed).standard_normal((2, 6, 9, 7)).astype(np.float32)
        (expected,) = run_onnx(model, {"x": x})
        actual = run(program, {"x": x})[y]
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        steps = np.abs(actual.astype(int) - expected.astype(int))
        assert steps.max() <= 1
        off, total = off + int((steps != 0).sum()), total + steps.size
        assert len(np.unique(expected)) > 5  # the comparison sees a signal
    assert off <= 0.02 * total
    if build.__name__ in EXPECTED_OPS:
        assert _ops(program) == {"quantize": 1, **EXPECTED_OPS[build.__name__]}


@pytest.mark.parametrize("build", [_conv_relu, _residual, _concat, _squeeze_excite], ids=lambda b: b.__name__)
def test_signed_activations(build: Builder) -> None:
    net, y = _quantized_net(build, 1, signed=True)
    model = net.model()
    program = lower(load(model))
    x = np.random.default_rng(1).standard_normal((2, 6, 9, 7)).astype(np.float32)
    (expected,) = run_onnx(model, {"x": x})
    actual = run(program, {"x": x})[y]
    assert actual.dtype == expected.dtype == np.int8
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1
    assert (program.values[y].scale, program.values[y].zero_point) == (np.float32(OUT_SCALE), 120 - 128)


def test_integer_input_and_output() -> None:
    """The graph takes and gives integers: u8 as they are, s8 through one table."""
    for signed in (False, True):
        net = Net(0, signed)
        kind = 3 if signed else 2
        x = net.dq(net.input([2, 6, 5, 5], kind=kind), 0.02, 125)
        y = net.q(net.conv(x, 6, 4), 0.02, 120)
        net.output(y, kind)
        model = net.model()
        program = lower(load(model))
        codes = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 5)).astype(np.uint8)
        feed = {"x": codes.view(np.int8) if signed else codes}
        (expected,) = run_onnx(model, feed)
        actual = run(program, feed)[y]
        assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1
        assert _ops(program) == ({"lut": 2, "conv": 1} if signed else {"conv": 1})


def test_fused_residual_is_conv_then_add_bit_for_bit() -> None:
    net, y = _quantized_net(_residual, 5)
    model = load(net.model())
    fused = lower(model)
    middle = next(node.outputs[0].name for node in model.graph if node.op_type == "Conv")
    quantized = next(
        n.outputs[0].name for n in model.graph if n.inputs[0] is not None and n.inputs[0].name == middle
    )
    assert quantized is not None
    apart = lower(model, [quantized])
    assert _ops(fused) == {"quantize": 1, "conv": 1} and _ops(apart) == {"quantize": 1, "conv": 1, "add": 1}
    x = np.random.default_rng(5).standard_normal((2, 6, 9, 7)).astype(np.float32)
    np.testing.assert_array_equal(run(fused, {"x": x})[y], run(apart, {"x": x})[y])

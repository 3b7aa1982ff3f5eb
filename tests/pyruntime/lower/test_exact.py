"""Rewritings that are exact: tables, data movement, borders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx_nets import Net, run_onnx

from pyruntime.frontends.onnx import load
from pyruntime.lower import lower
from pyruntime.program import Program
from pyruntime.reference import run

Builder = Callable[[Net, str], str]


def _i(net: Net, *numbers: int) -> str:
    return net.constant(np.array(numbers, np.int64))


MOVEMENT: dict[str, Builder] = {
    "max_pool": lambda n, x: n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "global max": lambda n, x: n.op("GlobalMaxPool", x),
    "resize": lambda n, x: n.op(
        "Resize",
        x,
        "",
        n.constant(np.array([1, 1, 2, 2], np.float32)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "reshape": lambda n, x: n.op("Reshape", x, _i(n, 0, -1)),
    "transpose": lambda n, x: n.op("Transpose", x, perm=[0, 2, 3, 1]),
    "slice": lambda n, x: n.op("Slice", x, _i(n, 1), _i(n, 2**63 - 1), _i(n, 1), _i(n, 2)),
    "pad": lambda n, x: n.op("Pad", x, _i(n, 0, 1, 1, 0, 0, 2, 0, 1), n.constant(np.float32(0.37))),
    "pad reflect": lambda n, x: n.op("Pad", x, _i(n, 0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    "unsqueeze": lambda n, x: n.op("Unsqueeze", x, _i(n, 1)),
    "flatten": lambda n, x: n.op("Flatten", x),
    "split": lambda n, x: n.op("Split", x, _i(n, 1, 5), axis=1, outputs=2)[1],
    "concat": lambda n, x: n.op("Concat", x, x, n.constant(np.ones((2, 1, 6, 6), np.float32)), axis=1),
}
FUNCTIONS: dict[str, Builder] = {
    "relu": lambda n, x: n.op("Relu", x),
    "clip": lambda n, x: n.op("Clip", x, n.constant(np.float32(-0.3)), n.constant(np.float32(0.7))),
    "sigmoid": lambda n, x: n.op("Sigmoid", x),
    "hard_swish": lambda n, x: n.op("HardSwish", x),
    "leaky": lambda n, x: n.op("LeakyRelu", x, alpha=0.1),
    "silu": lambda n, x: n.op("Mul", x, n.op("Sigmoid", x)),
    "gelu": lambda n, x: n.op("Gelu", x),
    "prelu": lambda n, x: n.op("PRelu", x, n.constant(np.float32([0.2]))),
    "scalar": lambda n, x: n.op(
        "Mul", n.op("Add", x, n.constant(np.float32(0.3))), n.constant(np.float32(0.7))
    ),
    "sqrt of negative": lambda n, x: n.op("Sqrt", x),
    "requantize": lambda n, x: x,
}


def _run_both(net: Net, shape: tuple[int, ...]) -> tuple[Program, np.ndarray, np.ndarray]:
    model = net.model()
    notes: list[str] = []
    program = lower(load(model), notes=notes)
    assert notes == []
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (expected,) = run_onnx(model, {"x": x})
    (actual,) = run(program, {"x": x}).values()
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    return program, actual, expected


@pytest.mark.parametrize("out", [(0.01, 128), (0.017, 90)], ids=["same", "other"])
@pytest.mark.parametrize("name", MOVEMENT)
def test_movement_is_exact(name: str, out: tuple[float, int]) -> None:
    net = Net(0)
    y = net.q(MOVEMENT[name](net, net.qdq(net.input([2, 6, 6, 6]), 0.01, 128)), *out)
    net.output(y, 2)
    program, actual, expected = _run_both(net, (2, 6, 6, 6))
    np.testing.assert_array_equal(actual, expected)
    assert [value.dtype for key, value in program.values.items() if key != "x"].count("f32") == 0
    tables = sum(node.op == "lut" for node in program.nodes)
    assert tables == (1 if out != (0.01, 128) else 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_tables(name: str) -> None:
    net = Net(0)
    y = net.q(FUNCTIONS[name](net, net.qdq(net.input([2, 500]), 0.02, 128)), 0.013, 70)
    net.output(y, 2)
    program, actual, expected = _run_both(net, (2, 500))
    assert [node.op for node in program.nodes] == ["quantize", "lut"]
    # Transcendental functions of other libraries may differ by a rounding, hence rarely by a step.
    steps = np.abs(actual.astype(int) - expected.astype(int))
    assert steps.max() <= 1 and steps.mean() < 0.01


def test_movement_between_dequantize_and_layer_runs_on_integers() -> None:
    """Only Q ... DQ round the whole: Flatten and MaxPool have no pair of their own."""
    net = Net(0)
    x = net.qdq(net.input([2, 6, 8, 8]), 0.02, 128)
    y = net.op("MaxPool", net.op("Relu", net.conv(x, 6, 4)), kernel_shape=[2, 2], strides=[2, 2])
    flat = net.op("Flatten", net.qdq(y, 0.01, 0))
    out = net.op("Gemm", flat, net.weight((3, 64), scale=1e-3), net.bias(3), transB=1)
    net.output(out)
    program, actual, expected = _run_both(net, (2, 6, 8, 8))
    assert [node.op for node in program.nodes] == ["quantize", "conv", "max_pool", "flatten", "dense"]
    np.testing.assert_allclose(actual, expected, atol=0.02)


def test_requantized_branch_is_made_once() -> None:
    net = Net(0)
    x = net.qdq(net.input([2, 6, 8, 8]), 0.02, 128)
    first = net.qdq(net.op("Concat", x, x, axis=1), 0.03, 120)
    net.output(net.q(net.op("Concat", first, x, axis=1), 0.03, 120), 2)
    program, actual, expected = _run_both(net, (2, 6, 8, 8))
    assert [node.op for node in program.nodes] == ["quantize", "lut", "concat", "concat"]
    np.testing.assert_array_equal(actual, expected)


def test_outputs_keep_their_names_and_extra_outputs_are_given() -> None:
    net = Net(0)
    x = net.input(["N", 6, 8, 8])
    conv = net.conv(x, 6, 4, dq=False)
    net.output(net.op("Relu", conv))
    model = load(net.model())
    assert [node.op for node in lower(model).nodes] == ["conv"]
    nodes_before = len(list(model.graph))
    program = lower(model, [conv, "x"])
    assert program.outputs == [model.graph.outputs[0].name, conv, "x"]
    feed = np.random.default_rng(0).standard_normal((2, 6, 8, 8)).astype(np.float32)
    results = run(program, {"x": feed})
    np.testing.assert_array_equal(results[program.outputs[0]], np.maximum(results[conv], 0))
    np.testing.assert_array_equal(results["x"], feed)
    assert len(list(model.graph)) == nodes_before


def test_value_given_out_twice_and_input_as_output() -> None:
    net = Net(0)
    x = net.input([2, 3])
    net.nodes.append(__import__("onnx").helper.make_node("Identity", [x], ["same"]))
    net.output("same")
    net.output(net.op("Relu", x))
    program = lower(load(net.model()))
    feed = np.array([[1, -2, 3], [0, 5, -6]], np.float32)
    results = run(program, {"x": feed})
    np.testing.assert_array_equal(results["same"], feed)


def test_program_is_the_same_each_time() -> None:
    net = Net(0)
    net.output(net.op("Relu", net.conv(net.qdq(net.input([2, 6, 8, 8]), 0.02, 128), 6, 4)))
    model = load(net.model())
    first, second = lower(model), lower(model)
    assert first.nodes == second.nodes and first.values == second.values
    assert isinstance(model, ir.Model)

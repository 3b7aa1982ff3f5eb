"""Export to standard ONNX: what ONNX Runtime makes of it, without its optimizations, is what we compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pyruntime import reference
from pyruntime.errors import ModelError
from pyruntime.export_onnx import export_file, to_onnx
from pyruntime.program import Constant, Node, Program, Value

RNG = np.random.default_rng(1)


def run_plain(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime by the letter: no graph optimization."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def assert_within_a_step(program: Program, feed: dict[str, np.ndarray]) -> None:
    """u8 outputs: at most one step apart in 99.9 % of the values, and never more than two."""
    onnx_results = run_plain(to_onnx(program), feed)
    for name, expected in reference.run(program, feed).items():
        result = onnx_results[name]
        assert result.shape == expected.shape and result.dtype == expected.dtype
        difference = np.abs(result.astype(np.float64) - expected.astype(np.float64))
        if expected.dtype == np.float32:
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
            continue
        assert difference.max(initial=0) <= 2
        assert np.mean(difference <= 1) >= 0.999
        assert np.mean(difference == 0) >= 0.98


def scale(x: float) -> float:
    return float(np.float32(x))


def u8(name: str, *shape: int | str, s: float = 0.05, z: int = 100) -> Value:
    return Value(name, "u8", ["N", *shape], scale(s), z)


def single(
    op: str,
    inputs: list[Value],
    output: Value,
    attributes: dict[str, object] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    order: list[str] | None = None,
) -> Program:
    """A program of one node over program inputs."""
    stored = {name: Constant(name, array) for name, array in (constants or {}).items()}
    names = order or [*(value.name for value in inputs), *stored]
    node = Node("node", op, names, [output.name], attributes or {})
    values = {value.name: value for value in [*inputs, output]}
    return Program("single", [value.name for value in inputs], [output.name], values, stored, [node])


def feed_for(program: Program, n: int = 4) -> dict[str, np.ndarray]:
    feed = {}
    for name in program.inputs:
        value = program.values[name]
        shape = [n if isinstance(size, str) else size for size in value.shape]
        if value.dtype == "f32":
            feed[name] = RNG.normal(0, 2, shape).astype(np.float32)
        else:
            feed[name] = RNG.integers(0, 256, shape).astype(np.uint8)
    return feed


def test_network(random_program: Callable[[], Program]) -> None:
    program = random_program()
    inner = replace(program, outputs=["y1", "y2", "p", "logits"])
    feed = {"input": RNG.normal(0, 1, (16, 3, 8, 8)).astype(np.float32)}
    onnx_results = run_plain(to_onnx(inner), feed)
    expected = reference.run(inner, feed)
    for name in ("y1", "y2", "p"):
        difference = np.abs(onnx_results[name].astype(int) - expected[name].astype(int))
        assert np.mean(difference <= 1) >= 0.999, name
    np.testing.assert_allclose(onnx_results["logits"], expected["logits"], atol=2 * 127 * 0.001)


@pytest.mark.parametrize("signed", [False, True])
def test_network_with_optimizations(random_program: Callable[[], Program], signed: bool) -> None:
    """ONNX Runtime's own integer kernels take the file too."""
    model = to_onnx(random_program(), signed=signed)
    feed = {"input": RNG.normal(0, 1, (4, 3, 8, 8)).astype(np.float32)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feed)
    np.testing.assert_allclose(result, reference.run(random_program(), feed)["logits"], atol=4 * 127 * 0.001)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("clamp", [{}, {"lo": 90}, {"lo": 90, "hi": 200}, {"hi": 180}])
def test_conv(groups: int, clamp: dict[str, int]) -> None:
    constants = {
        "w": RNG.integers(-127, 128, (8, 4 // groups, 3, 3)).astype(np.int8),
        "m": RNG.uniform(0.001, 0.004, 8).astype(np.float32),
        "o": RNG.uniform(50, 150, 8).astype(np.float32),
    }
    attributes = {"strides": [2, 1], "pads": [0, 1, 1, 2], "dilations": [1, 2], "groups": groups, **clamp}
    program = single("conv", [u8("x", 4, 9, 9)], u8("y", 8, 4, 8, s=0.1, z=90), attributes, constants)
    assert_within_a_step(program, feed_for(program))


def test_conv_float_output_and_dead_channel() -> None:
    constants = {
        "w": RNG.integers(-127, 128, (3, 2, 1, 1)).astype(np.int8),
        "m": np.float32([0.01, 0.0, 0.02]),
        "o": np.float32([1.0, 2.0, -1e6]),
    }
    window = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "groups": 1}
    program = single("conv", [u8("x", 2, 3, 3)], Value("y", "f32", ["N", 3, 3, 3]), window, constants)
    assert_within_a_step(program, feed_for(program))


@pytest.mark.parametrize("rank", [2, 3])
def test_dense(rank: int) -> None:
    middle = [6] * (rank - 2)
    constants = {
        "w": RNG.integers(-127, 128, (7, 12)).astype(np.int8),
        "m": RNG.uniform(0.001, 0.004, 7).astype(np.float32),
        "o": RNG.uniform(50, 150, 7).astype(np.float32),
    }
    program = single("dense", [u8("x", *middle, 12)], u8("y", *middle, 7, z=0), {"lo": 0}, constants)
    assert_within_a_step(program, feed_for(program))


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("shift", [0.0, 12.5])
def test_add(signs: tuple[int, int], shift: float) -> None:
    a, b, y = u8("a", 5, s=0.1, z=20), u8("b", 5, s=0.31, z=100), u8("y", 5, s=0.23, z=60)
    am, bm = scale(signs[0] * 0.1 / 0.23), scale(signs[1] * 0.31 / 0.23)
    offset = scale(60 - am * 20 - bm * 100 + shift)
    program = single("add", [a, b], y, {"a_multiplier": am, "b_multiplier": bm, "offset": offset, "lo": 30})
    assert_within_a_step(program, feed_for(program, 300))


def test_add_constant() -> None:
    a, y = u8("a", 5, s=0.1, z=20), u8("y", 5, s=0.2, z=60)
    constants = {"c": np.uint8([0, 50, 100, 200, 255])}
    attributes = {"a_multiplier": 0.51, "b_multiplier": 0.27, "offset": scale(60 - 10.2 - 0.27 * 30)}
    program = single("add", [a], y, attributes, constants)
    assert_within_a_step(program, feed_for(program, 300))


@pytest.mark.parametrize("constant", [False, True])
def test_mul(constant: bool) -> None:
    a, b, y = u8("a", 5, s=0.1, z=20), u8("b", 5, s=0.3, z=100), u8("y", 5, s=2.0, z=60)
    attributes = {"a_zero_point": 20, "b_zero_point": 100, "multiplier": scale(0.01537), "offset": 60}
    if constant:
        program = single("mul", [a], y, attributes, {"c": np.uint8([0, 50, 100, 200, 255])})
    else:
        program = single("mul", [a, b], y, attributes)
    assert_within_a_step(program, feed_for(program, 300))


def test_mul_with_an_odd_offset_is_refused() -> None:
    a, b, y = u8("a", 5), u8("b", 5), u8("y", 5, z=60)
    attributes = {"a_zero_point": 100, "b_zero_point": 100, "multiplier": 0.1, "offset": 61.5}
    with pytest.raises(ModelError, match="offset"):
        to_onnx(single("mul", [a, b], y, attributes))


def _table(function: Callable[[np.ndarray], np.ndarray], x: Value, y: Value) -> np.ndarray:
    reals = (np.arange(256) - (x.zero_point or 0)) * (x.scale or 1)
    return np.clip(np.rint(function(reals) / (y.scale or 1)) + (y.zero_point or 0), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: x, None),
        (lambda x: x / (1 + np.exp(-x)), "Sigmoid"),
        (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "HardSwish"),
        (lambda x: np.sin(3 * x), "Gather"),
    ],
)
def test_lut(function: Callable[[np.ndarray], np.ndarray], op: str | None) -> None:
    x, y = u8("x", 64, s=0.06, z=120), u8("y", 64, s=0.05, z=30)
    program = single("lut", [x], y, None, {"t": _table(function, x, y)})
    assert_within_a_step(program, feed_for(program, 50))
    ops = {node.op_type for node in to_onnx(program).graph.node}
    assert op is None or op in ops


def test_signed_tables_sums_and_borders() -> None:
    """s8 inside, u8 where the program itself takes or gives integers."""
    x, out = u8("x", 64, s=0.06, z=120), u8("out", 64, s=0.04, z=128)
    a, b = (Value(name, "u8", ["N", 64], out.scale, 128) for name in ("a", "b"))
    nodes = [
        Node("first", "lut", ["x", "t"], ["a"], {}),
        Node("second", "lut", ["a", "u"], ["b"], {}),
        Node("sum", "add", ["b", "k"], ["out"], {"a_multiplier": 0.5, "b_multiplier": 0.25, "offset": 32.0}),
    ]
    tables = {
        "t": _table(lambda x: np.sin(3 * x), x, a),
        "u": RNG.permutation(256).astype(np.uint8),
        "k": RNG.integers(0, 256, (1, 64)).astype(np.uint8),
    }
    values = {value.name: value for value in (x, a, b, out)}
    program = Program(
        "tables", ["x"], ["out"], values, {name: Constant(name, t) for name, t in tables.items()}, nodes
    )
    feed = feed_for(program, 50)
    expected = reference.run(program, feed)["out"]
    for signed in (False, True):
        result = run_plain(to_onnx(program, signed=signed), feed)["out"]
        assert result.dtype == np.uint8
        assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


MOVEMENT = [
    (
        "max_pool",
        [3, 4, 4],
        {"kernel": [2, 2], "strides": [2, 2], "pads": [0] * 4, "dilations": [1, 1]},
        [3, 2, 2],
    ),
    ("max_pool", [3, 4, 4], {"global": 1}, [3, 1, 1]),
    ("flatten", [3, 4, 4], {"axis": 1}, [48]),
    ("reshape", [3, 4, 4], {"shape": [0, 4, -1], "allowzero": 0}, [4, 12]),
    ("transpose", [3, 4, 4], {"perm": [0, 2, 3, 1]}, [4, 4, 3]),
    ("slice", [3, 4, 4], {"starts": [1, 3], "ends": [3, -5], "axes": [1, 3], "steps": [1, -2]}, [2, 4, 2]),
    ("pad", [3, 4, 4], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "constant", "value": 100}, [3, 5, 7]),
    ("unsqueeze", [3], {"axes": [2]}, [3, 1]),
    ("squeeze", [3, 1], {"axes": [2]}, [3]),
    (
        "resize",
        [3, 4, 4],
        {
            "mode": "nearest",
            "scales": [1.0, 1.0, 2.0, 2.0],
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
        [3, 8, 8],
    ),
]


@pytest.mark.parametrize(("op", "shape", "attributes", "result"), MOVEMENT)
def test_movement_is_exact(
    op: str, shape: list[int], attributes: dict[str, object], result: list[int]
) -> None:
    program = single(op, [u8("x", *shape)], u8("y", *result), attributes)
    feed = feed_for(program)
    np.testing.assert_array_equal(run_plain(to_onnx(program), feed)["y"], reference.run(program, feed)["y"])


def test_average_pool() -> None:
    window = {"kernel": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1]}
    attributes = {**window, "count_include_pad": 0, "multiplier": 0.05 / 0.04}
    program = single("average_pool", [u8("x", 3, 5, 5)], u8("y", 3, 5, 5, s=0.04, z=10), attributes)
    assert_within_a_step(program, feed_for(program))
    model = to_onnx(program)
    scales = [i for i in model.graph.initializer if i.name.endswith(("_scale", "_zero_point"))]
    assert scales and all(list(i.dims) == [] for i in scales)
    # Optimized, a pool of scales that are vectors of one value is refused.
    ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


UNARY = [
    ("relu", {}),
    ("clip", {"lo": -0.5, "hi": 1.0}),
    ("clip", {"hi": 1.0}),
    ("leaky_relu", {"alpha": 0.3}),
    ("sigmoid", {}),
    ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    ("hard_swish", {}),
    ("tanh", {}),
    ("gelu", {}),
    ("gelu_tanh", {}),
    ("silu", {}),
    ("exp", {}),
    ("erf", {}),
    ("neg", {}),
    ("abs", {}),
    ("reciprocal", {}),
]


@pytest.mark.parametrize(("function", "attributes"), UNARY)
def test_unary(function: str, attributes: dict[str, float]) -> None:
    x, y = Value("x", "f32", ["N", 9]), Value("y", "f32", ["N", 9])
    program = single("unary", [x], y, {"function": function, **attributes})
    assert_within_a_step(program, feed_for(program))


def test_float_operators() -> None:
    f32 = {name: Value(name, "f32", ["N", 6]) for name in "abcde"}
    nodes = [
        Node("sub", "sub", ["a", "k"], ["b"], {"lo": -1.0}),
        Node("div", "div", ["b", "k"], ["c"]),
        Node("softmax", "softmax", ["c"], ["d"], {"axis": -1}),
        Node("mean", "reduce_mean", ["d"], ["e"], {"axes": [1], "keepdims": 1}),
    ]
    f32["e"].shape = ["N", 1]
    constants = {"k": Constant("k", RNG.uniform(1, 2, 6).astype(np.float32))}
    program = Program("floats", ["a"], ["b", "c", "d", "e"], f32, constants, nodes)
    assert_within_a_step(program, feed_for(program))


def test_export_file(packed_file: Path, tmp_path: Path) -> None:
    export_file(packed_file, tmp_path / "q.onnx")
    ops = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert ops.count("Conv") == 2 and "QuantizeLinear" in ops and "DequantizeLinear" in ops

"""Every operator of the reference: float ones against onnxruntime, integer ones against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from programs import single

from pyruntime import numerics
from pyruntime.errors import DataError, ModelError
from pyruntime.program import OPERATORS
from pyruntime.reference import run
from pyruntime.reference.ops import OPS
from pyruntime.validation import validate

RNG = np.random.default_rng(0)
X4 = RNG.standard_normal((2, 6, 7, 9)).astype(np.float32)
XT = X4.swapaxes(2, 3).copy()
X2 = RNG.standard_normal((3, 6)).astype(np.float32)


def _onnx(
    op: str, x: np.ndarray, attributes: dict[str, Any], constants: list[np.ndarray | None]
) -> np.ndarray:
    names = ["" if array is None else f"c{i}" for i, array in enumerate(constants)]
    stored = [
        numpy_helper.from_array(array, name)
        for array, name in zip(constants, names, strict=True)
        if array is not None
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(x.dtype), None)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


def _ours(op: str, x: np.ndarray, attributes: dict[str, Any], constants: list[np.ndarray]) -> np.ndarray:
    program = single(
        op,
        {"x": ("f32", list(x.shape), None, None)},
        {f"c{i}": array for i, array in enumerate(constants)},
        ("f32", [], None, None),
        attributes,
    )
    validate(program)
    return run(program, {"x": x})["y"]


def _i(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


W3 = RNG.standard_normal((8, 3)).astype(np.float32)
W = {g: RNG.standard_normal((8, 6 // g, 3, 2)).astype(np.float32) for g in (1, 2)}
DW = RNG.standard_normal((6, 1, 3, 3)).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)
CONV = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}
POOL = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "ceil_mode": 0}

# name -> (ONNX op, its attributes, its constants, our op, our attributes, our constants, x)
FLOAT: dict[str, tuple[Any, ...]] = {
    "conv": ("Conv", {**CONV, "group": 1}, [W[1], BIAS], "conv", {**CONV, "groups": 1}, [W[1], BIAS], X4),
    "conv groups": ("Conv", {**CONV, "group": 2}, [W[2]], "conv", {**CONV, "groups": 2}, [W[2]], X4),
    "conv depthwise": (
        "Conv",
        {"group": 6, "pads": [1, 1, 1, 1]},
        [DW],
        "conv",
        {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "groups": 6},
        [DW],
        X4,
    ),
    "conv 1d": (
        "Conv",
        {"strides": [2], "pads": [1, 0]},
        [W[1][..., 0]],
        "conv",
        {"strides": [2], "pads": [1, 0], "dilations": [1], "groups": 1},
        [W[1][..., 0]],
        X4[..., 0],
    ),
    "dense": ("Gemm", {"transB": 1}, [W[1][:, :, 0, 0], BIAS], "dense", {}, [W[1][:, :, 0, 0], BIAS], X2),
    "dense nd": (
        "MatMul",
        {},
        [W[1][:, 0, :, 0].T.copy()],
        "dense",
        {},
        [W[1][:, 0, :, 0].copy()],
        X4[..., :3],
    ),
    "max pool": (
        "MaxPool",
        {**POOL, "kernel_shape": [3, 3]},
        [],
        "max_pool",
        {**POOL, "kernel": [3, 3]},
        [],
        X4,
    ),
    "max pool ceil": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        [],
        "max_pool",
        {"kernel": [2, 2], "strides": [2, 2], "pads": [0] * 4, "dilations": [1, 1], "ceil_mode": 1},
        [],
        X4,
    ),
    "max pool dilated": (
        "MaxPool",
        {"kernel_shape": [2, 3], "dilations": [2, 2]},
        [],
        "max_pool",
        {"kernel": [2, 3], "strides": [1, 1], "pads": [0] * 4, "dilations": [2, 2], "ceil_mode": 0},
        [],
        X4,
    ),
    "average pool": (
        "AveragePool",
        {**POOL, "kernel_shape": [3, 3]},
        [],
        "average_pool",
        {**POOL, "kernel": [3, 3], "count_include_pad": 0},
        [],
        X4,
    ),
    "average pool include": (
        "AveragePool",
        {**POOL, "kernel_shape": [3, 3], "count_include_pad": 1},
        [],
        "average_pool",
        {**POOL, "kernel": [3, 3], "count_include_pad": 1},
        [],
        X4,
    ),
    "average pool ceil include": (
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
        [],
        "average_pool",
        {**POOL, "pads": [0] * 4, "kernel": [2, 2], "count_include_pad": 1, "ceil_mode": 1},
        [],
        X4,
    ),
    "global average": ("GlobalAveragePool", {}, [], "average_pool", {"global": 1}, [], X4),
    "global max": ("GlobalMaxPool", {}, [], "max_pool", {"global": 1}, [], X4),
    "mean": (
        "ReduceMean",
        {"keepdims": 0},
        [_i(1, -1)],
        "reduce_mean",
        {"axes": [1, -1], "keepdims": 0},
        [],
        X4,
    ),
    "softmax": ("Softmax", {"axis": 1}, [], "softmax", {"axis": 1}, [], X4),
    "matmul": ("MatMul", {}, [XT], "matmul", {}, [XT], X4),
    "prelu": ("PRelu", {}, [BIAS[:6].reshape(6, 1, 1)], "prelu", {}, [BIAS[:6].reshape(6, 1, 1)], X4),
    "add": ("Add", {}, [X4[:, :, :1]], "add", {}, [X4[:, :, :1]], X4),
    "sub": ("Sub", {}, [X4[:, :1]], "sub", {}, [X4[:, :1]], X4),
    "mul": ("Mul", {}, [X4[:1]], "mul", {}, [X4[:1]], X4),
    "div": ("Div", {}, [X4[:1]], "div", {}, [X4[:1]], X4),
    "concat": ("Concat", {"axis": 1}, [X4], "concat", {"axis": 1}, [X4], X4),
    "slice": (
        "Slice",
        {},
        [_i(1, -2, 100), _i(100, -100, 2), _i(1, 2, -1), _i(2, -1, -3)],
        "slice",
        {"starts": [1, -2, 100], "ends": [100, -100, 2], "axes": [1, 2, -1], "steps": [2, -1, -3]},
        [],
        X4,
    ),
    "slice reversed": (
        "Slice",
        {},
        [_i(-1), _i(-(2**63)), _i(3), _i(-1)],
        "slice",
        {"starts": [-1], "ends": [-(2**62)], "axes": [3], "steps": [-1]},
        [],
        X4,
    ),
    "pad": (
        "Pad",
        {},
        [_i(0, 0, 1, 2, 0, 1, 3, 0), np.float32(1.5).reshape(())],
        "pad",
        {"pads": [0, 0, 1, 2, 0, 1, 3, 0], "mode": "constant", "value": 1.5},
        [],
        X4,
    ),
    "pad crop": (
        "Pad",
        {},
        [_i(0, 0, -1, 2, 0, -1, 0, -3)],
        "pad",
        {"pads": [0, 0, -1, 2, 0, -1, 0, -3], "mode": "constant"},
        [],
        X4,
    ),
    "pad reflect": (
        "Pad",
        {"mode": "reflect"},
        [_i(0, 0, 1, 2, 0, 0, 3, 0)],
        "pad",
        {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "mode": "reflect"},
        [],
        X4,
    ),
    "reshape": ("Reshape", {}, [_i(0, -1, 3)], "reshape", {"shape": [0, -1, 3], "allowzero": 0}, [], X4),
    "flatten": ("Flatten", {"axis": -2}, [], "flatten", {"axis": -2}, [], X4),
    "squeeze": ("Squeeze", {}, [_i(-1)], "squeeze", {"axes": [-1]}, [], X4[..., :1]),
    "unsqueeze": ("Unsqueeze", {}, [_i(0, -1)], "unsqueeze", {"axes": [0, -1]}, [], X4),
    "transpose": ("Transpose", {"perm": [2, 0, 3, 1]}, [], "transpose", {"perm": [2, 0, 3, 1]}, [], X4),
}


@pytest.mark.parametrize("name", FLOAT)
def test_float_operators_agree_with_onnxruntime(name: str) -> None:
    their_op, their_attributes, their_constants, op, attributes, constants, x = FLOAT[name]
    x = np.ascontiguousarray(x)
    expected = _onnx(their_op, x, their_attributes, their_constants)
    actual = _ours(op, x, attributes, constants)
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


RESIZE = [
    ("nearest", "asymmetric", "floor", [1, 1, 2, 2]),
    ("nearest", "half_pixel", "round_prefer_floor", [1, 1, 2, 3]),
    ("nearest", "half_pixel", "round_prefer_ceil", [1, 1, 0.5, 1.5]),
    ("nearest", "align_corners", "ceil", [1, 1, 2, 2]),
    ("linear", "half_pixel", "round_prefer_floor", [1, 1, 2, 0.5]),
    ("linear", "align_corners", "round_prefer_floor", [1, 1, 3, 2]),
    ("linear", "pytorch_half_pixel", "round_prefer_floor", [1, 1, 0.2, 2]),
]


@pytest.mark.parametrize(("mode", "coordinates", "nearest", "scales"), RESIZE)
def test_resize(mode: str, coordinates: str, nearest: str, scales: list[float]) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    expected = _onnx("Resize", X4, attributes, [None, np.array(scales, np.float32)])
    actual = _ours("resize", X4, {**attributes, "scales": scales}, [])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    sized = {**attributes, "sizes": list(expected.shape)}
    assert _ours("resize", X4, sized, []).shape == expected.shape


def test_registry_is_the_format() -> None:
    assert set(OPS) == set(OPERATORS)


def _accumulate_plain(
    x: np.ndarray, zero: int, w: np.ndarray, stride: int, pad: int, groups: int
) -> np.ndarray:
    """Convolution by explicit loops in Python integers."""
    batch, _, height, width = x.shape
    outputs, depth, kh, kw = w.shape
    oh, ow = (height + 2 * pad - kh) // stride + 1, (width + 2 * pad - kw) // stride + 1
    acc = np.zeros((batch, outputs, oh, ow), np.int64)
    for n, o, i, j in np.ndindex(acc.shape):
        first = o // (outputs // groups) * depth
        total = 0
        for c, a, b in np.ndindex(depth, kh, kw):
            y, z = i * stride + a - pad, j * stride + b - pad
            if 0 <= y < height and 0 <= z < width:
                total += (int(x[n, first + c, y, z]) - zero) * int(w[o, c, a, b])
        acc[n, o, i, j] = total
    return acc


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_integer_conv_with_residual(groups: int) -> None:
    rng = np.random.default_rng(groups)
    x = rng.integers(0, 256, (2, 4, 5, 6)).astype(np.uint8)
    w = rng.integers(-128, 128, (8, 4 // groups, 3, 3)).astype(np.int8)
    acc = _accumulate_plain(x, 130, w, 2, 1, groups)
    residual = rng.integers(0, 256, acc.shape).astype(np.uint8)
    multiplier = rng.uniform(1e-4, 4e-3, 8).astype(np.float32)
    offset = rng.uniform(-5, 200, 8).astype(np.float32)
    extra = {"a_multiplier": 0.7, "b_multiplier": 0.4, "add_offset": -3.0, "add_lo": 5, "add_hi": 250}
    attributes = {
        "strides": [2, 2],
        "pads": [1] * 4,
        "dilations": [1, 1],
        "groups": groups,
        "lo": 7,
        "hi": 240,
    }
    f = numerics.fma(acc, multiplier[:, None, None], offset[:, None, None])
    q1 = np.clip(np.rint(f), 7, 240)
    base = numerics.fma(residual, np.float32(0.4), np.float32(-3))
    expected = np.clip(np.rint(numerics.fma(q1, np.float32(0.7), base)), 5, 250).astype(np.uint8)
    inputs: dict[str, Any] = {"x": ("u8", [2, 4, 5, 6], 0.5, 130), "r": ("u8", list(acc.shape), 0.5, 1)}
    program = single(
        "conv",
        inputs,
        {"w": w, "m": multiplier, "o": offset},
        ("u8", list(acc.shape), 0.25, 0),
        {**attributes, **extra},
        ["x", "w", "m", "o", "r"],
    )
    validate(program)
    np.testing.assert_array_equal(run(program, {"x": x, "r": residual})["y"], expected)
    program.nodes[0].inputs.pop()
    for key in extra:
        program.nodes[0].attributes.pop(key)
    np.testing.assert_array_equal(run(program, {"x": x, "r": residual})["y"], q1.astype(np.uint8))
    program.values["y"].dtype, program.values["y"].scale, program.values["y"].zero_point = "f32", None, None
    program.nodes[0].attributes.update(lo=0.0, hi=100.5)
    result = run(program, {"x": x, "r": residual})["y"]
    np.testing.assert_array_equal(result, np.clip(f, 0, np.float32(100.5)))


def test_padding_holds_the_zero_point() -> None:
    """x everywhere at its zero point is real 0: every output is the offset, borders included."""
    x = np.full((1, 3, 5, 5), 128, np.uint8)
    w = np.random.default_rng(0).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    program = single(
        "conv",
        {"x": ("u8", [1, 3, 5, 5], 0.1 + 0.025, 128)},
        {"w": w, "m": np.full(4, 0.01, np.float32), "o": np.arange(4, dtype=np.float32) + 9},
        ("u8", [], 0.5, 9),
        {"strides": [1, 1], "pads": [1, 1, 2, 2], "dilations": [1, 1], "groups": 1},
    )
    result = run(program, {"x": x})["y"]
    assert result.shape == (1, 4, 6, 6)
    np.testing.assert_array_equal(result, np.broadcast_to(np.arange(9, 13)[:, None, None], (1, 4, 6, 6)))


def test_no_saturation_of_pair_sums() -> None:
    program = single(
        "dense",
        {"x": ("u8", [1, 4], 1.0, 0)},
        {"w": np.full((1, 4), 127, np.int8), "m": np.ones(1, np.float32), "o": np.zeros(1, np.float32)},
        ("f32", [1, 1], None, None),
        {},
    )
    assert run(program, {"x": np.full((1, 4), 255, np.uint8)})["y"].tolist() == [[129540.0]]


def test_integer_add_mul_average_and_lut() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 1, 3, 4, 4)).astype(np.uint8)
    inputs: dict[str, Any] = {"a": ("u8", [1, 3, 4, 4], 0.5, 10), "b": ("u8", [1, 3, 4, 4], 0.25, 20)}
    out = ("u8", [1, 3, 4, 4], 0.5, 30)
    # (a-10)*0.5 + (b-20)*0.25 = (y-30)*0.5; every step is exact in float32 here
    add = single("add", inputs, {}, out, {"a_multiplier": 1.0, "b_multiplier": 0.5, "offset": 10.0, "lo": 30})
    validate(add)
    exact = np.clip(np.rint(a + 0.5 * b.astype(float) + 10), 30, 255)
    np.testing.assert_array_equal(run(add, {"a": a, "b": b})["y"], exact)
    attributes = {"a_zero_point": 10, "b_zero_point": 20, "multiplier": 0.25, "offset": 30.0}
    mul = single("mul", inputs, {}, out, attributes)
    validate(mul)
    exact = np.clip(np.rint((a.astype(int) - 10) * (b.astype(int) - 20) * 0.25 + 30), 0, 255)
    np.testing.assert_array_equal(run(mul, {"a": a, "b": b})["y"], exact)
    average = single(
        "average_pool", {"a": inputs["a"]}, {}, ("u8", [], 0.25, 5), {"global": 1, "multiplier": 2.0}
    )
    validate(average)
    factor = np.float32(2.0 / 16)
    sums = (a.astype(int) - 10).sum(axis=(2, 3), keepdims=True)
    expected = np.clip(np.rint(numerics.fma(sums, factor, np.float32(5))), 0, 255)
    np.testing.assert_array_equal(run(average, {"a": a})["y"], expected)
    table = rng.integers(-128, 128, 256).astype(np.int8)
    lut = single("lut", {"a": ("s8", [1, 3, 4, 4], 0.5, 0)}, {"t": table}, ("s8", [], 0.5, 0), {})
    validate(lut)
    signed = a.view(np.int8)
    np.testing.assert_array_equal(run(lut, {"a": signed})["y"], table[a])


def test_empty_batch() -> None:
    x = np.zeros((0, 6, 7, 9), np.float32)
    for name in ("conv", "max pool", "average pool", "softmax", "reshape", "concat", "transpose"):
        _, _, _, op, attributes, constants, _ = FLOAT[name]
        constants = [x] if name == "concat" else constants
        if name == "reshape":
            attributes = {"shape": [0, 6, 63], "allowzero": 0}
        assert 0 in _ours(op, x, attributes, constants).shape


def test_errors_name_the_item() -> None:
    program = single(
        "unary", {"x": ("f32", ["N", 3], None, None)}, {}, ("f32", [], None, None), {"function": "relu"}
    )
    with pytest.raises(DataError, match=r"'x'.*float64.*f32"):
        run(program, {"x": np.zeros((1, 3))})
    with pytest.raises(DataError, match=r"'x'.*\[1, 4\]"):
        run(program, {"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(DataError, match="'x' is missing"):
        run(program, {})
    with pytest.raises(DataError, match="'z'"):
        run(program, {"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)})
    with pytest.raises(DataError, match="'q'"):
        run(program, {"x": np.zeros((1, 3), np.float32)}, ["q"])
    with pytest.raises(ModelError, match="'n'"):
        _ours("conv", X4[:, :5], {**CONV, "groups": 1}, [W[1]])

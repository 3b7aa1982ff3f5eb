from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pyruntime import numerics


def _round_to_float32(x: Fraction) -> float:
    """Nearest float32 of an exact number, ties to even, by comparing neighbours."""
    guess = np.float32(float(x))
    neighbours = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    even = [int(n.view(np.int32)) & 1 for n in neighbours]
    distances = [(abs(Fraction(float(n)) - x), odd) for n, odd in zip(neighbours, even, strict=True)]
    return float(neighbours[min(range(3), key=lambda i: distances[i])])


def test_fma_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    a = (rng.standard_normal(4000) * 2.0 ** rng.integers(-12, 12, 4000)).astype(np.float32)
    b = (rng.standard_normal(4000) * 2.0 ** rng.integers(-12, 12, 4000)).astype(np.float32)
    c = (rng.standard_normal(4000) * 2.0 ** rng.integers(-30, 30, 4000)).astype(np.float32)
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)
    ]
    expected = np.array([_round_to_float32(x) for x in exact], np.float32)
    np.testing.assert_array_equal(numerics.fma(a, b, c), expected)


def test_fma_where_rounding_twice_is_wrong() -> None:
    """1 + 2^-24 (a tie) plus a product far below float64's last bit: float64 then float32 loses it."""
    a = np.float32(2.0**-40)
    c = np.float32(1.0)
    tie = numerics.fma(np.float32(1 + 2**-12), np.float32(2**-24), c)  # 1 + 2^-24 + 2^-36, above the tie
    assert tie == np.float32(1 + 2**-23)
    # product 2^-24 + 2^-47 + 2^-70 does not fit beside 1 in float64
    x, y = np.float32(2**-12 * (1 + 2**-23)), np.float32(2**-12 * (1 + 2**-23))
    assert np.float32(float(x) * float(y) + 1.0) == numerics.fma(x, y, c) == np.float32(1 + 2**-23)
    x, y = np.float32((1 + 2**-23) * 2**-30), np.float32(-(2**-30))
    big = np.float32(1 + 2**-23)
    # big + half a step - tiny: below the tie although float64 cannot see it
    half = numerics.fma(np.float32(1.0), np.float32(2**-24), big)
    assert half == np.float32(1 + 2**-22)  # exact tie goes to even
    assert numerics.fma(a, a, c) == 1.0 and numerics.fma(x, y, big) == big


def test_subnormals_and_infinities() -> None:
    assert numerics.fma(1e-30, 1e-10, 0) == 0.0
    assert numerics.fma(3e38, 3e38, 0) == np.inf
    assert np.isnan(numerics.fma(np.inf, 0, 0))


def test_quantize_rounds_half_to_even_and_clamps() -> None:
    x = np.array([0.25, 0.75, 1.25, 1.75, 200, -1, np.nan, np.inf, -np.inf], np.float32)
    assert numerics.quantize(x, 0.5, 0, np.uint8).tolist() == [0, 2, 2, 4, 255, 0, 0, 255, 0]
    assert numerics.quantize(x[:4], 0.5, -128, np.int8).tolist() == [-128, -126, -126, -124]


ONNX_FUNCTIONS = {
    "relu": ("Relu", {}, {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.1}, {"alpha": 0.1}),
    "sigmoid": ("Sigmoid", {}, {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, {"alpha": 0.2, "beta": 0.5}),
    "hard_swish": ("HardSwish", {}, {}),
    "tanh": ("Tanh", {}, {}),
    "gelu": ("Gelu", {}, {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}, {}),
    "exp": ("Exp", {}, {}),
    "sqrt": ("Sqrt", {}, {}),
    "erf": ("Erf", {}, {}),
    "neg": ("Neg", {}, {}),
    "abs": ("Abs", {}, {}),
    "reciprocal": ("Reciprocal", {}, {}),
}


@pytest.mark.parametrize("function", ONNX_FUNCTIONS)
def test_functions_agree_with_onnxruntime(function: str) -> None:
    op, theirs, ours = ONNX_FUNCTIONS[function]
    x = np.concatenate([np.linspace(-20, 20, 401), [0.0, np.nan]]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **theirs)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    actual = numerics.unary(function, x, ours)
    assert np.isnan(actual[-1])
    # tanh and gelu there are float32 approximations of a few units in the last place
    np.testing.assert_allclose(actual[:-1], expected[:-1], rtol=2e-5, atol=1e-6)


def test_silu_and_clip() -> None:
    x = np.array([-3, -0.5, 0, 2, 100, -1000], np.float32)
    with np.errstate(over="ignore"):
        expected = x / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(numerics.unary("silu", x, {}), expected, rtol=1e-6)
    assert numerics.unary("clip", x, {"lo": -1, "hi": 6}).tolist() == [-1, -0.5, 0, 2, 6, -1]
    assert numerics.unary("clip", x, {"hi": 6}).tolist() == [-3, -0.5, 0, 2, 6, -1000]

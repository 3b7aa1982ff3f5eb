"""Rows of kernels/elementwise: equal to the reference and, bit by bit, to each other."""

import math

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = [row["name"] for row in testing.float_rows("elementwise") if row["usable"]]
LENGTHS = [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000]
SMALL = [1e-40, -1e-40, 1e-45, 1.1754944e-38]
LARGE = [3.4028235e38, -3.4028235e38, 88.7, 88.8, -87.3, -88.0, -103.9, -104.5, 200.0, -200.0]
USUAL = [0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 9.5, -9.5]
SPECIALS = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, *SMALL, *LARGE, *USUAL], np.float32)
MODES = [testing.Mode(flush_denormals=flush) for flush in (False, True)]
EXACT_UNARY = ["relu", "clip", "leaky_relu", "sqrt", "neg", "abs", "reciprocal", "hard_sigmoid"]
SMOOTH_UNARY = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "exp": np.exp,
    "erf": np.vectorize(math.erf),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}
PARAMETERS = {"clip": (-0.75, 2.5), "leaky_relu": (0.01, 0.0), "hard_sigmoid": (0.2, 0.5)}


def bits(array):
    """Bits of a float array, every NaN alike."""
    return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))


def floats(n, seed=0, scale=4.0):
    """n float32 values, specials first."""
    x = np.random.default_rng(seed).normal(0, scale, n).astype(np.float32)
    x[: min(n, SPECIALS.size)] = SPECIALS[:n]
    return x


def unary(row, function, x, **options):
    alpha, beta = PARAMETERS.get(function, (0.0, 0.0))
    return testing.unary_f32(row, function, x, alpha, beta, **options)


def test_every_isa_has_a_row():
    rows = testing.float_rows("elementwise")
    assert rows[0]["isa"] == "scalar"
    assert rows[0]["usable"]
    assert len({row["isa"] for row in rows}) == len(rows)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("function", EXACT_UNARY)
def test_exact_unary_equals_reference(row, function):
    for n in LENGTHS:
        for mode in MODES:
            x = floats(n, n)
            got = unary(row, function, x, mode=mode)
            np.testing.assert_array_equal(bits(got), bits(unary("reference", function, x, mode=mode)))
    in_place = unary(row, function, x, mode=testing.Mode(in_place=True))
    np.testing.assert_array_equal(bits(in_place), bits(unary(row, function, x)))


@pytest.mark.parametrize("row", ROWS[1:])
@pytest.mark.parametrize("function", list(SMOOTH_UNARY))
def test_smooth_unary_has_the_bits_of_scalar(row, function):
    for n in LENGTHS:
        for mode in MODES:
            x = floats(n, n)
            got = unary(row, function, x, mode=mode)
            np.testing.assert_array_equal(bits(got), bits(unary(ROWS[0], function, x, mode=mode)))
    in_place = unary(row, function, x, mode=testing.Mode(in_place=True))
    np.testing.assert_array_equal(bits(in_place), bits(unary(row, function, x)))
    wide = np.linspace(-110, 110, 20001, dtype=np.float32)
    np.testing.assert_array_equal(bits(unary(row, function, wide)), bits(unary(ROWS[0], function, wide)))


@pytest.mark.parametrize("function", list(SMOOTH_UNARY))
def test_smooth_unary_is_accurate(function):
    """Within 1e-6 of float64, relative or absolute; exp within 2 units in the last place."""
    x = np.concatenate(
        [np.linspace(-87, 88, 70001), np.linspace(-4.5, 4.5, 70001), np.geomspace(1e-30, 1, 2001)]
    )
    x = np.concatenate([x, -x[-2001:]]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = SMOOTH_UNARY[function](x.astype(np.float64))
    got = unary(ROWS[-1], function, x)
    error = np.abs(got - expected)
    assert np.all(error <= 1e-6 * np.maximum(1, np.abs(expected)))
    if function == "exp":
        assert np.all(error <= 2 * np.spacing(expected.astype(np.float32)))
    if function in ("tanh", "erf"):  # odd functions keep their relative accuracy near zero
        assert np.all(error <= 5e-7 * np.abs(expected))


@pytest.mark.parametrize("row", ROWS)
def test_special_values(row):
    inf, nan = np.inf, np.nan
    x = np.array([nan, inf, -inf, 0.0], np.float32)
    expected = {
        "relu": [nan, inf, 0, 0],
        "clip": [nan, 2.5, -0.75, 0],
        "leaky_relu": [nan, inf, -inf, 0],
        "sigmoid": [nan, 1, 0, 0.5],
        "hard_sigmoid": [nan, 1, 0, 0.5],
        "hard_swish": [nan, inf, nan, 0],
        "tanh": [nan, 1, -1, 0],
        "gelu": [nan, inf, nan, 0],
        "gelu_tanh": [nan, inf, nan, 0],
        "silu": [nan, inf, nan, 0],
        "exp": [nan, inf, 0, 1],
        "sqrt": [nan, inf, nan, 0],
        "erf": [nan, 1, -1, 0],
        "neg": [nan, -inf, inf, 0],
        "abs": [nan, inf, inf, 0],
        "reciprocal": [nan, 0, 0, inf],
    }
    for function, values in expected.items():
        np.testing.assert_array_equal(unary(row, function, np.repeat(x, 16)), np.repeat(values, 16), function)
    np.testing.assert_array_equal(unary(row, "exp", np.full(20, 88.8, np.float32)), np.full(20, inf))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "prelu"])
def test_binary_f32_equals_reference(row, op):
    for n in LENGTHS:
        a, b = floats(n, n), floats(n, n + 1)[::-1].copy()
        for right in (b, np.array([0.25], np.float32)):
            for lo, hi in ((-np.inf, np.inf), (-1.0, 6.0)):
                for mode in [*MODES, testing.Mode(in_place=True)]:
                    got = testing.binary_f32(row, op, a, right, lo, hi, mode)
                    expected = testing.binary_f32("reference", op, a, right, lo, hi, mode)
                    np.testing.assert_array_equal(bits(got), bits(expected))


@pytest.mark.parametrize("row", ROWS)
def test_add_u8_equals_reference(row):
    rng = np.random.default_rng(3)
    for n in LENGTHS:
        a, b = rng.integers(0, 256, (2, n), dtype=np.uint8)
        for right in (b, np.array([77], np.uint8)):
            for parameters in ((0.5, 0.5, 0.0), (0.731, -0.25, 12.5), (2.5, 1.5, -300.0)):
                for lo, hi in ((0.0, 255.0), (13.0, 200.0)):
                    for mode in (testing.Mode(), testing.Mode(in_place=True)):
                        got = testing.add_u8(row, a, right, *parameters, lo, hi, mode)
                        expected = testing.add_u8("reference", a, right, *parameters, lo, hi, mode)
                        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("row", ROWS)
def test_add_u8_on_all_pairs(row):
    """Ties round to even: with multipliers of one half, half of all pairs are ties."""
    a, b = (v.ravel().astype(np.uint8) for v in np.mgrid[0:256, 0:256])
    expected = np.rint((a.astype(np.float64) + b) / 2)
    np.testing.assert_array_equal(testing.add_u8(row, a, b, 0.5, 0.5, 0.0), expected)


@pytest.mark.parametrize("row", ROWS)
def test_mul_u8_equals_reference(row):
    rng = np.random.default_rng(4)
    for n in LENGTHS:
        a, b = rng.integers(0, 256, (2, n), dtype=np.uint8)
        for right in (b, np.array([7], np.uint8)):
            for parameters in ((128, 3, 0.0123, 100.0), (0, 255, -0.5, 3.5)):
                got = testing.mul_u8(row, a, right, *parameters, 5.0, 250.0)
                np.testing.assert_array_equal(
                    got, testing.mul_u8("reference", a, right, *parameters, 5.0, 250.0)
                )


@pytest.mark.parametrize("row", ROWS)
def test_softmax(row):
    rng = np.random.default_rng(5)
    for n in LENGTHS[1:]:
        x = rng.normal(0, 5, n).astype(np.float32)
        got = testing.softmax_f32(row, x)
        np.testing.assert_array_equal(bits(got), bits(testing.softmax_f32(ROWS[0], x)))
        np.testing.assert_allclose(got, testing.softmax_f32("reference", x), rtol=1e-6, atol=1e-12)
        np.testing.assert_array_equal(
            bits(testing.softmax_f32(row, x, testing.Mode(in_place=True))), bits(got)
        )
        x[n // 2] = np.nan
        assert np.isnan(testing.softmax_f32(row, x)).all()
    x = np.array([-np.inf, 0.0, 1e30, 1e30], np.float32)
    np.testing.assert_array_equal(testing.softmax_f32(row, x), [0, 0, 0.5, 0.5])
    assert testing.softmax_f32(row, np.zeros(0, np.float32)).size == 0

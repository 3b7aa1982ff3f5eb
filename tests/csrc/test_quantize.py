"""Rows of kernels/quantize against NumPy and the reference: ties, saturation, NaN, layout change."""

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = ["reference", *(row["name"] for row in testing.float_rows("quantize") if row["usable"])]
LENGTHS = [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000]
SPECIALS = np.array(
    [
        np.nan,
        -np.nan,
        np.inf,
        -np.inf,
        -0.0,
        1e-40,
        1e-45,
        -1e-40,
        3.4e38,
        -3.4e38,
        8388608.5,
        1e7,
        -1e9,
        2.5,
        3.5,
    ],
    np.float32,
)
SCALES = [np.float32(s) for s in (0.5, 0.0186, 1e-3, 3.0, 1e-30)]


def floats(n, seed, spread):
    x = (np.random.default_rng(seed).normal(0, 1, n) * spread).astype(np.float32)
    x[: min(n, SPECIALS.size)] = SPECIALS[:n]
    return x


def expected_quantize(x, scale, zero_point):
    with np.errstate(all="ignore"):
        q = np.rint((x / scale).astype(np.float32)).astype(np.float64) + zero_point
    return np.clip(np.where(np.isnan(q), 0, q), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("flip", [0, 0x80])
def test_quantize(row, flip):
    for n in LENGTHS:
        for scale in SCALES:
            for zero_point in (0, 114, 255):
                x = floats(n, n, 60 * scale)
                got = testing.quantize(row, x, scale, zero_point, flip)
                np.testing.assert_array_equal(got, expected_quantize(x, scale, zero_point) ^ flip)


@pytest.mark.parametrize("row", ROWS)
def test_quantize_rounds_half_to_even(row):
    x = np.array([0.25, 0.75, 1.25, 1.75] * 8, np.float32)
    np.testing.assert_array_equal(testing.quantize(row, x, 0.5, 0), [0, 2, 2, 4] * 8)
    np.testing.assert_array_equal(
        testing.quantize(row, x, 0.5, 3), [3, 5, 5, 7] * 8
    )  # rounded before the shift
    steps = (np.arange(-300, 600, dtype=np.float32) + np.float32(0.5)) * np.float32(0.5)
    np.testing.assert_array_equal(
        testing.quantize(row, steps, 0.5, 20), expected_quantize(steps, np.float32(0.5), 20)
    )


@pytest.mark.parametrize("row", ROWS)
def test_quantize_divides(row):
    """127.5 / scale must not become a multiplication by the reciprocal: near ties the results differ."""
    rng = np.random.default_rng(7)
    scale = np.float32(0.0123)
    x = (np.rint(rng.uniform(0, 255, 4000)) + 0.5).astype(np.float32) * scale
    x = np.concatenate([np.nextafter(x, np.float32(0)), x, np.nextafter(x, np.float32(1e9))]).astype(
        np.float32
    )
    np.testing.assert_array_equal(testing.quantize(row, x, scale, 0), expected_quantize(x, scale, 0))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("flip", [0, 0x80])
def test_dequantize(row, flip):
    x = np.tile(np.arange(256, dtype=np.uint8), 4)
    for n in LENGTHS:
        for zero_point in (0, 114, 255):
            got = testing.dequantize(row, x[:n], np.float32(0.0186), zero_point, flip)
            expected = ((x[:n] ^ flip).astype(np.float32) - zero_point) * np.float32(0.0186)
            np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 16, 17, 40])
def test_planes_to_pixels(row, channels):
    for n in LENGTHS:
        for extra in (0, 1, 13):
            x = floats(channels * n, n, 2.0).reshape(channels, n)
            got = testing.planes_to_pixels(row, x, np.float32(0.0186), 114, channels + extra)
            np.testing.assert_array_equal(got[:, :channels], expected_quantize(x, np.float32(0.0186), 114).T)
            assert (got[:, channels:] == 0xA5).all()

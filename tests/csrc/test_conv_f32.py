"""Rows of kernels/conv_f32: bit-equal to the reference (the order of the sum is fixed), close to float64."""

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = [row["name"] for row in testing.float_rows("conv_f32") if row["usable"]]


def case(rows, cols, n, kh, kw, k, stride=1, dilation=1, pitch=None, seed=0):
    """Random x [H, W, pitch] whose channels past k are NaN, w [n, kh, kw, k], bias [n]."""
    rng = np.random.default_rng(seed)
    height, width = (
        (rows - 1) * stride + (kh - 1) * dilation + 1,
        (cols - 1) * stride + (kw - 1) * dilation + 1,
    )
    x = np.full((height, width, pitch or k), np.nan, np.float32)
    x[:, :, :k] = rng.normal(0, 1, (height, width, k))
    w = rng.normal(0, 1, (n, kh, kw, k)).astype(np.float32)
    return x, w, rng.normal(0, 1, n).astype(np.float32)


def float64_conv(x, w, bias, rows, cols, stride, dilation):
    y = np.tile(bias.astype(np.float64), (rows, cols, 1))
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            top, left = i * dilation, j * dilation
            view = x[
                top : top + (rows - 1) * stride + 1 : stride, left : left + (cols - 1) * stride + 1 : stride
            ]
            y += view[:, :, : w.shape[3]].astype(np.float64) @ w[:, i, j].T.astype(np.float64)
    return y


def assert_same_bits(got, expected):
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cols", [*range(1, 18), 28, 29, 49])
def test_pixels(row, cols):
    x, w, bias = case(1, cols, 70, 1, 1, 9, pitch=11, seed=cols)
    assert_same_bits(testing.conv_f32(row, x, w, bias), testing.conv_f32("reference", x, w, bias))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 129, 257])
def test_output_channels(row, n):
    for cols in (1, 2, 3, 5, 14):
        x, w, bias = case(1, cols, n, 1, 1, 5, seed=n)
        assert_same_bits(testing.conv_f32(row, x, w, bias), testing.conv_f32("reference", x, w, bias))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("rows", "cols", "n", "kh", "kw", "k", "stride", "dilation"),
    [
        (7, 7, 40, 3, 3, 17, 1, 1),
        (5, 9, 33, 3, 3, 3, 2, 1),
        (3, 4, 16, 2, 5, 8, 1, 2),
        (4, 4, 32, 7, 7, 3, 2, 1),
    ],
)
def test_windows(row, rows, cols, n, kh, kw, k, stride, dilation):
    x, w, bias = case(rows, cols, n, kh, kw, k, stride, dilation, pitch=k + 2)
    got = testing.conv_f32(row, x, w, bias, stride, dilation)
    assert got.shape == (rows, cols, n)
    assert_same_bits(got, testing.conv_f32("reference", x, w, bias, stride, dilation))
    expected = float64_conv(x, w, bias, rows, cols, stride, dilation)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.sqrt(kh * kw * k), rtol=1e-5)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("rows", "cols", "n", "kernel", "k", "pitch"),
    [
        (7, 7, 96, 1, 1500, 1501),  # sums in parts by channels
        (13, 13, 100, 1, 1400, 1408),  # several chunks of tiles, a last panel that is not whole
        (7, 7, 80, 3, 200, 200),  # sums in parts by taps
        (1, 1, 160, 1, 1100, 1100),  # one pixel, panels side by side
        (2, 5, 100, 2, 400, 400),
        (1, 9, 96, 1, 1400, 1400),  # tiles of two sizes, for which panels are grouped differently
        (1, 13, 96, 1, 1400, 1400),
        (1, 19, 96, 1, 1400, 1400),
        (4, 9, 70, 1, 1024, 1024),  # pixels 4096 bytes apart
        (3, 7, 150, 1, 1024, 2048),
    ],
)
def test_more_weights_than_l2_holds(row, rows, cols, n, kernel, k, pitch):
    """More than 512 KB of them, but for 4x9 pixels: parts of sums wait in memory, with a residual, too."""
    x, w, bias = case(rows, cols, n, kernel, kernel, k, pitch=pitch, seed=k)
    residual = np.random.default_rng(1).normal(0, 3, (rows, cols, n)).astype(np.float32)
    for r in (None, residual):
        got = testing.conv_f32(row, x, w, bias, residual=r, lo=-50.0)
        assert_same_bits(got, testing.conv_f32("reference", x, w, bias, residual=r, lo=-50.0))
    got = testing.conv_f32(row, x, w, bias, n_begin=32, n_end=64)
    np.testing.assert_array_equal(
        got[..., 32:64], testing.conv_f32("reference", x, w, bias)[..., 32:64], strict=True
    )


@pytest.mark.parametrize("row", ROWS)
def test_residual_and_clamp(row):
    x, w, bias = case(5, 6, 37, 3, 3, 4)
    residual = np.random.default_rng(1).normal(0, 3, (5, 6, 37)).astype(np.float32)
    for r in (None, residual):
        for lo, hi in ((0.0, 6.0), (0.0, np.inf), (-np.inf, 1.5)):
            got = testing.conv_f32(row, x, w, bias, residual=r, lo=lo, hi=hi)
            assert_same_bits(got, testing.conv_f32("reference", x, w, bias, residual=r, lo=lo, hi=hi))
            assert got.min() >= lo
            assert got.max() <= hi


@pytest.mark.parametrize("row", ROWS)
def test_range_of_output_channels(row):
    """A task computes channels n_begin..n_end - 1 and touches no others."""
    x, w, bias = case(2, 3, 150, 1, 1, 6)
    whole = testing.conv_f32("reference", x, w, bias)
    untouched = np.uint32(0xA5A5A5A5)
    for begin, end in ((0, 64), (64, 128), (128, 150), (32, 96)):
        got = testing.conv_f32(row, x, w, bias, n_begin=begin, n_end=end).view(np.uint32)
        np.testing.assert_array_equal(got[..., begin:end], whole.view(np.uint32)[..., begin:end])
        assert (got[..., :begin] == untouched).all()
        assert (got[..., end:] == untouched).all()


@pytest.mark.parametrize("row", ROWS)
def test_nan_and_infinity_pass(row):
    x, w, bias = case(1, 20, 33, 1, 1, 4)
    w = np.abs(w)
    x[0, 3, 1], x[0, 7, 2], x[0, 9, 0] = np.nan, np.inf, -np.inf
    got = testing.conv_f32(row, x, w, bias, lo=0.0, hi=6.0)
    assert np.isnan(got[0, 3]).all()
    assert (got[0, 7] == 6).all()
    assert (got[0, 9] == 0).all()
    assert np.isfinite(np.delete(got[0], 3, axis=0)).all()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("flush", [False, True])
def test_subnormals(row, flush):
    x, w, bias = case(2, 8, 40, 1, 1, 16)
    x, bias, mode = x * np.float32(1e-30), bias * np.float32(1e-41), testing.Mode(flush_denormals=flush)
    w = w * np.float32(1e-9)
    got = testing.conv_f32(row, x, w, bias, mode=mode)
    assert_same_bits(got, testing.conv_f32("reference", x, w, bias, mode=mode))
    tiny = np.finfo(np.float32).tiny
    assert bool(((np.abs(got) < tiny) & (got != 0)).any()) == (not flush)


@pytest.mark.parametrize("row", ROWS)
def test_products_are_rounded_once(row):
    """1 + 2^-23 plus a product just below 2^-24 stays; by way of float64 it would be a tie and go up."""
    step = np.float32(2.0**-23)
    x = np.full((1, 5, 1), np.float32(2.0**-24) * (1 + step), np.float32)
    w = np.full((33, 1, 1, 1), 1 - step, np.float32)
    bias = np.full(33, 1 + step, np.float32)
    np.testing.assert_array_equal(testing.conv_f32(row, x, w, bias), np.full((1, 5, 33), 1 + step))
    rng = np.random.default_rng(2)
    values = np.array(
        [1, 2**-23, 1 + 2**-23, 1 - 2**-24, 2**-24, 3 * 2**-25, 2**-12, 1 + 2**-12, -1], np.float32
    )
    x, w, bias = rng.choice(values, (1, 40, 12)), rng.choice(values, (64, 1, 1, 12)), rng.choice(values, 64)
    assert_same_bits(testing.conv_f32(row, x, w, bias), testing.conv_f32("reference", x, w, bias))

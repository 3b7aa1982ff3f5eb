"""Rows of kernels/depthwise_f32: bit-equal to the reference, close to float64."""

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = [row["name"] for row in testing.float_rows("depthwise_f32") if row["usable"]]


def case(rows, cols, channels, kh, kw, stride=1, dilation=1, pitch=None, seed=0):
    """Random x [H, W, pitch] with NaN past the layer's channels, w [kh, kw, channels], bias [channels]."""
    rng = np.random.default_rng(seed)
    height, width = (
        (rows - 1) * stride + (kh - 1) * dilation + 1,
        (cols - 1) * stride + (kw - 1) * dilation + 1,
    )
    x = np.full((height, width, pitch or channels), np.nan, np.float32)
    x[:, :, :channels] = rng.normal(0, 1, (height, width, channels))
    w = rng.normal(0, 1, (kh, kw, channels)).astype(np.float32)
    return x, w, rng.normal(0, 1, channels).astype(np.float32)


def float64_depthwise(x, w, bias, rows, cols, stride, dilation):
    y = np.tile(bias.astype(np.float64), (rows, cols, 1))
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            top, left = i * dilation, j * dilation
            view = x[
                top : top + (rows - 1) * stride + 1 : stride, left : left + (cols - 1) * stride + 1 : stride
            ]
            y += view[:, :, : w.shape[2]].astype(np.float64) * w[i, j]
    return y


def assert_same_bits(got, expected):
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("channels", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200])
def test_channels(row, channels):
    for kh, kw in ((3, 3), (2, 4)):
        x, w, bias = case(3, 9, channels, kh, kw, pitch=channels + 3)
        got = testing.depthwise_f32(row, x, w, bias)
        assert_same_bits(got, testing.depthwise_f32("reference", x, w, bias))
        np.testing.assert_allclose(got, float64_depthwise(x, w, bias, 3, 9, 1, 1), atol=1e-5)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cols", range(1, 17))
def test_columns(row, cols):
    for kh, kw in ((3, 3), (5, 5), (1, 1), (7, 7)):
        x, w, bias = case(2, cols, 24, kh, kw, seed=cols)
        assert_same_bits(
            testing.depthwise_f32(row, x, w, bias), testing.depthwise_f32("reference", x, w, bias)
        )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2), (2, 2), (3, 1)])
def test_strides_and_dilations(row, stride, dilation):
    for size in (3, 5):
        x, w, bias = case(4, 11, 19, size, size, stride, dilation)
        got = testing.depthwise_f32(row, x, w, bias, stride, dilation)
        assert_same_bits(got, testing.depthwise_f32("reference", x, w, bias, stride, dilation))
        np.testing.assert_allclose(got, float64_depthwise(x, w, bias, 4, 11, stride, dilation), atol=1e-5)


@pytest.mark.parametrize("row", ROWS)
def test_clamp_nan_and_channel_range(row):
    x, w, bias = case(3, 8, 150, 3, 3)
    x[2, 4, ::2] = np.nan
    whole = testing.depthwise_f32("reference", x, w, bias, lo=0.0, hi=6.0)
    assert np.isnan(whole).any()
    got = testing.depthwise_f32(row, x, w, bias, lo=0.0, hi=6.0)
    np.testing.assert_array_equal(got, whole)
    for begin, end in ((0, 64), (64, 128), (128, 150)):
        part = testing.depthwise_f32(row, x, w, bias, lo=0.0, hi=6.0, channel_begin=begin, channel_end=end)
        np.testing.assert_array_equal(part[..., begin:end], whole[..., begin:end])
        assert (np.delete(part, range(begin, end), axis=2).view(np.uint32) == 0xA5A5A5A5).all()

import numpy as np
import pytest

from pyruntime.quantize import weights
from pyruntime.quantize.schemes import Integer


def scales_of(array):
    return weights.weight_scales(weights.channel_max(array))


def codes_of(array):
    return Integer().fit(array[:, None]).codes(array)


def test_round_trip_within_half_a_step():
    array = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    grid = Integer().fit(array[:, None])
    assert np.abs(grid.codes(array)).max(axis=1).tolist() == [127] * 5
    assert (np.abs(grid.round(array) - array) <= 0.5001 * scales_of(array)[:, None]).all()


def test_dead_and_denormal_channels_get_a_common_scale_and_zeros():
    array = np.array([[0, 0], [1e-42, -1e-40], [1e-30, 0], [1e-4, -2e-4], [1, -2]], np.float32)
    scales = scales_of(array)
    assert (scales[:3] == scales[3]).all()
    assert (scales_of(np.zeros((2, 3), np.float32)) > 0).all()
    assert (codes_of(array)[:3] == 0).all()


def test_zeros_stay_zero():
    rng = np.random.default_rng(1)
    array = np.where(rng.random((6, 50)) < 0.6, 0, rng.normal(size=(6, 50))).astype(np.float32)
    q = codes_of(array)
    assert (q[array == 0] == 0).all()


@pytest.mark.parametrize("size", [1e-6, 1e-12, 3e38])
def test_small_and_huge_weights(size):
    array = (np.array([[1, -0.5]]) * size).astype(np.float32)
    scales = scales_of(array)
    assert np.isfinite(scales).all() and (scales > 0).all()
    assert codes_of(array).tolist() == [[127, -63]]


def test_scales_grow_for_a_bias_beyond_int32():
    """Weights of at most 1e-7 with a bias of 5: in accumulator steps the bias is 1.3e10."""
    array = np.full((2, 3), 1e-7, np.float32)
    bias = np.array([5.0, -4.5], np.float32)
    step = np.float32(0.5)
    assert np.abs(bias / (float(step) * scales_of(array))).max() > 2**31
    scales = weights.grow_for_bias(scales_of(array), bias, step)
    q, steps = weights.quantize_bias(bias, step, scales, np.float32(0.04))
    assert np.abs(q.astype(np.int64)).max() <= weights.BIAS_MAX
    np.testing.assert_allclose(q * steps.astype(np.float64), bias, rtol=1e-6)


def test_scales_do_not_grow_without_need():
    scales = np.array([0.01, 0.02], np.float32)
    np.testing.assert_array_equal(
        weights.grow_for_bias(scales, np.array([1.0, -3.0]), np.float32(0.1)), scales
    )


@pytest.mark.parametrize(
    ("input_scale", "scale", "output_scale"),
    [(1e30, 1e30, None), (1e-30, 1e-20, None), (1.0, 1.0, 0.5)],
    ids=["overflow", "underflow", "coarser than the output"],
)
def test_bias_stays_float_where_integers_are_worse(input_scale, scale, output_scale):
    found = weights.quantize_bias(
        np.ones(2, np.float32),
        np.float32(input_scale),
        np.full(2, scale, np.float32),
        None if output_scale is None else np.float32(output_scale),
    )
    assert found is None


def test_sqnr():
    assert weights.sqnr_db(np.ones(4), np.full(4, 0.9)) == pytest.approx(20)
    assert weights.sqnr_db(np.ones(4), np.ones(4)) == np.inf
    assert weights.sqnr_db(np.zeros(4), np.zeros(4)) == np.inf

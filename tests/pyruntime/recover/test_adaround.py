"""Learned rounding: up or down, whichever the layer's outputs feel less."""

import numpy as np

from pyruntime.quantize.schemes import Integer
from pyruntime.recover.adaround import neighbours, soft_round
from pyruntime.recover.rounding import round_columns


def problem(seed, groups=1, rows=8, columns=24):
    """Hessian of correlated inputs `[groups, k, k]` and weights `[groups, rows, k]`."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(groups, columns, columns // 3))
    hessian = mixing @ mixing.transpose(0, 2, 1) + 0.3 * np.eye(columns)
    return hessian, rng.normal(size=(groups, rows, columns))


def grid_of(weight, bits):
    return Integer(bits).fit(weight.reshape(-1, 1, weight.shape[2]))


def error(hessian, weight, rounded):
    lost = rounded - weight
    return float(((lost @ hessian) * lost).sum())


def test_neighbours_enclose_the_weight_and_keep_to_the_grid():
    weight = np.array([[[3.0, 0.4, -0.6, 0.0, -2.9, 1.1, 5.0]]])
    grid = Integer(3).fit(np.array([[[3.0]]]))  # levels -3..3
    low, high = neighbours(weight, grid)
    np.testing.assert_allclose(low[0, 0], [3, 0, -1, 0, -3, 1, 3], atol=1e-6)
    np.testing.assert_allclose(high[0, 0], [3, 1, 0, 0, -2, 2, 3], atol=1e-6)


def test_learned_rounding_beats_the_nearest_point():
    for seed in range(5):
        hessian, weight = problem(seed)
        grid = grid_of(weight, 4)
        found = soft_round(hessian, weight, grid)
        nearest = grid.round(weight[0]).astype(np.float64)[None]
        np.testing.assert_array_equal(grid.round(found[0]), found[0].astype(np.float32))
        assert error(hessian, weight, found) < 0.5 * error(hessian, weight, nearest)


def test_groups_have_scales_of_their_own():
    hessian, weight = problem(1, groups=3, rows=2)
    weight *= np.array([1, 10, 100])[:, None, None]
    grid = grid_of(weight, 4)
    found = soft_round(hessian, weight, grid)
    flat = found.reshape(6, -1)
    np.testing.assert_array_equal(grid.round(flat), flat.astype(np.float32))
    step = grid.scales.reshape(3, 2, 1)
    assert (np.abs(found - weight) < 1.01 * step).all()


def test_zeros_stay_zero():
    hessian, weight = problem(2)
    weight[:, :, ::3] = 0
    assert (soft_round(hessian, weight, grid_of(weight, 4))[:, :, ::3] == 0).all()


def test_it_is_a_match_for_error_feedback():
    """On average; the sequential method may leave the neighbours of a weight, this one may not."""
    learned, fed_back = 0.0, 0.0
    for seed in range(8):
        hessian, weight = problem(seed, columns=48)
        grid = grid_of(weight, 3)
        learned += error(hessian, weight, soft_round(hessian, weight, grid))
        fed_back += error(hessian, weight, round_columns(hessian, weight, grid))
    assert learned < 1.5 * fed_back

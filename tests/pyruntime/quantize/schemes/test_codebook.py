from itertools import combinations

import numpy as np
import pytest

from pyruntime.quantize.schemes.codebook import INITS, Codebook, optimal


def error(samples, mass, table):
    return (mass * np.square(samples[:, None] - np.asarray(table)).min(axis=1)).sum()


def test_optimal_is_the_best_of_all_tables():
    """By trying every table of three among the points that can matter."""
    rng = np.random.default_rng(0)
    samples, mass = rng.normal(0, 4, 40), rng.uniform(0.1, 1, 40)
    points = range(int(samples.min()) - 1, int(samples.max()) + 2)
    best = min(error(samples, mass, table) for table in combinations(points, 3))
    found = optimal(samples, mass, 3, False)
    assert found.size == 3
    assert error(samples, mass, found) == pytest.approx(best)
    with_zero = min(error(samples, mass, table) for table in combinations(points, 3) if 0 in table)
    forced = optimal(samples + 0.0, mass, 3, True)
    assert 0 in forced
    assert error(samples, mass, forced) == pytest.approx(with_zero)


@pytest.mark.parametrize("init", INITS)
def test_tables_have_at_most_k_entries_and_optimal_wins(init):
    rng = np.random.default_rng(1)
    samples, mass = rng.normal(0, 30, 3000).clip(-127, 127), np.ones(3000)
    table = INITS[init](samples, mass, 16, False)
    assert table.size <= 16 and (np.diff(table) > 0).all()
    assert error(samples, mass, INITS["optimal"](samples, mass, 16, False)) <= error(samples, mass, table)


@pytest.mark.parametrize("init", INITS)
def test_pruned_weights_keep_zeros_and_codebook_size(init):
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(8, 9, 16)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.6] = 0
    grid = Codebook(16, init, "tensor").fit(weight)
    codes = grid.codes(weight.reshape(8, -1))
    assert (codes[weight.reshape(8, -1) == 0] == 0).all()
    assert np.unique(codes).size <= 16


def test_fewer_distinct_weights_than_centroids():
    weight = np.array([[[1.0, -2.0, 1.0, 0.5]]], np.float32)
    for init in INITS:
        grid = Codebook(16, init).fit(weight)
        np.testing.assert_allclose(grid.round(weight[:, 0]), weight[:, 0], atol=2 / 254)

import numpy as np
import pytest

from pyruntime.prune.granularity import find
from pyruntime.prune.select import keep_in_layer
from pyruntime.recover import solve


def problem(rng, rows=6, columns=24, samples=400):
    """Correlated inputs, so that weights can stand in for one another."""
    mixing = rng.normal(size=(columns, columns // 3))
    x = rng.normal(size=(samples, columns // 3)) @ mixing.T + 0.3 * rng.normal(size=(samples, columns))
    covariance, weight = x.T @ x / samples, rng.normal(size=(rows, columns))
    return solve.Problem.of(covariance, weight @ covariance, weight), x


def loss(p, weight):
    return float(np.einsum("rk,kl,rl->", weight, p.hessian, weight) - 2 * (weight * p.target).sum())


def test_without_zeros_the_weights_stay():
    p, _ = problem(np.random.default_rng(0))
    np.testing.assert_allclose(solve.least_squares(p, np.ones(p.weight0.shape, bool)), p.weight0, atol=1e-8)


def test_survivors_reach_the_minimum():
    rng = np.random.default_rng(1)
    p, _ = problem(rng)
    support = rng.random(p.weight0.shape) < 0.5
    found = solve.least_squares(p, support)
    assert (found[~support] == 0).all()
    gradient = found @ p.hessian - p.target
    np.testing.assert_allclose(gradient[support], 0, atol=1e-8)
    assert loss(p, found) < loss(p, np.where(support, p.weight0, 0))


def test_iteration_agrees_with_the_exact_solve(monkeypatch):
    rng = np.random.default_rng(2)
    p, _ = problem(rng)
    support = rng.random(p.weight0.shape) < 0.5
    exact = solve.least_squares(p, support)
    monkeypatch.setattr(solve, "EXACT_PRICE", np.inf)
    near = solve.least_squares(p, support)
    assert (near[~support] == 0).all()
    np.testing.assert_allclose(near, exact, atol=2e-3)


@pytest.mark.parametrize("name", ["weight", "block4"])
@pytest.mark.parametrize("channels", [8, 6])
def test_choosing_by_cost_beats_magnitude(name, channels):
    granularity, taps = find(name), 24 // channels
    by_magnitude, by_cost = [], []
    for seed in range(8):
        p, _ = problem(np.random.default_rng(seed), rows=8, columns=taps * channels)
        scores = granularity.group(np.square(p.weight0).reshape(8, taps, channels))
        mask = granularity.spread(keep_in_layer(scores, 0.6), channels)
        chosen, _ = solve.select(p, granularity, mask)
        groups = granularity.group(chosen.astype(float))
        assert set(np.unique(groups)) == {0, 1}
        assert groups.sum() == granularity.group(mask.astype(float)).sum()
        full = loss(p, p.weight0)
        by_magnitude.append(loss(p, solve.least_squares(p, mask.reshape(8, -1))) - full)
        by_cost.append(loss(p, solve.least_squares(p, chosen.reshape(8, -1))) - full)
    assert sum(by_cost) < 0.9 * sum(by_magnitude)


def test_two_of_four_stays_two_of_four():
    p, _ = problem(np.random.default_rng(4))
    chosen, _ = solve.select(p, find("2:4"), np.ones((6, 3, 8), bool))
    assert (chosen.reshape(6, 3, 2, 4).sum(-1) == 2).all()


def test_cost_of_a_block_is_what_dropping_it_costs():
    p, _ = problem(np.random.default_rng(5), rows=3)
    inverse = np.linalg.inv(p.hessian)
    blocks = solve._blocks((3, 3, 8), 4)
    costs = solve._costs(p.target @ inverse, solve._block_diagonal(inverse, blocks), blocks)
    support = np.ones((3, 24), bool)
    support[:, blocks[2]] = False
    best = solve.least_squares(p, support)
    for row in range(3):
        one = solve.Problem(p.hessian, p.target[row : row + 1], p.weight0[row : row + 1])
        assert loss(one, best[row : row + 1]) - loss(one, one.weight0) == pytest.approx(costs[row, 2])


def test_dead_inputs_do_not_break_the_solve():
    covariance = np.zeros((8, 8))
    p = solve.Problem.of(covariance, np.zeros((2, 8)), np.ones((2, 8)))
    mask = np.zeros((2, 2, 4), bool)
    mask[:, 0] = True
    chosen, _ = solve.select(p, find("block4"), mask)
    assert np.isfinite(solve.least_squares(p, chosen.reshape(2, -1))).all()


@pytest.mark.parametrize("name", ["1:4", "2:4", "4:8"])
def test_a_pattern_chosen_by_cost_beats_magnitude(name):
    pattern, by_magnitude, by_cost = find(name), 0.0, 0.0
    for seed in range(8):
        p, _ = problem(np.random.default_rng(seed), rows=8)
        mask = pattern.pattern(np.square(p.weight0).reshape(8, 3, 8))
        chosen, _ = solve.select(p, pattern, mask)
        assert (chosen.reshape(8, -1, pattern.of).sum(-1) == pattern.keep).all()
        full = loss(p, p.weight0)
        by_magnitude += loss(p, solve.least_squares(p, mask.reshape(8, -1))) - full
        by_cost += loss(p, solve.least_squares(p, chosen.reshape(8, -1))) - full
    assert by_cost < by_magnitude


@pytest.mark.parametrize("name", ["weight", "block4", "2:4"])
def test_weights_that_were_zero_stay_zero(name):
    rng = np.random.default_rng(6)
    p, _ = problem(rng)
    zero = rng.random(p.weight0.shape) < 0.4
    zero[0] = True
    p = solve.Problem(p.hessian, p.target, np.where(zero, 0, p.weight0))
    granularity, shape = find(name), (6, 3, 8)
    scores = granularity.group(np.square(p.weight0).reshape(shape))
    kept = granularity.pattern(scores) if granularity.fixed else keep_in_layer(scores, 0.6)
    before = granularity.spread(kept, 8) & ~zero.reshape(shape)
    chosen, _ = solve.select(p, granularity, before)
    assert not (chosen.reshape(6, -1) & zero).any()
    count = [granularity.group(mask.astype(float)).astype(bool).sum() for mask in (chosen, before)]
    assert count[0] == count[1]

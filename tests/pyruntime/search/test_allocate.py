import itertools

import numpy as np
import pytest

from pyruntime.search.allocate import allocate, total


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_within_the_budget_is_better(seed):
    rng = np.random.default_rng(seed)
    losses = [rng.uniform(0, 1, size).tolist() for size in (3, 1, 4, 2)]
    costs = [rng.integers(1, 50, len(row)).astype(float).tolist() for row in losses]
    for budget in (30.5, 60.5, 90.5, 200.5):
        found = allocate(losses, costs, budget)
        fitting = [
            choice
            for choice in itertools.product(*(range(len(row)) for row in losses))
            if total(costs, choice) <= budget
        ]
        if not fitting:
            least = min(total(costs, c) for c in itertools.product(*(range(len(row)) for row in losses)))
            assert total(costs, found) == least
            continue
        assert total(costs, found) <= budget
        assert total(losses, found) == pytest.approx(min(total(losses, choice) for choice in fitting))


def test_the_budget_holds_for_costs_that_are_no_round_numbers():
    rng = np.random.default_rng(0)
    losses = rng.uniform(0, 1, (60, 6)).tolist()
    costs = (rng.uniform(0, 1, (60, 6)) * 1e5).tolist()
    least, most = sum(map(min, costs)), sum(map(max, costs))
    before = np.inf
    for budget in np.linspace(least, most, 7):
        found = allocate(losses, costs, budget)
        assert total(costs, found) <= budget * (1 + 1e-9)
        assert total(losses, found) <= before
        before = total(losses, found)


def test_equal_losses_take_the_cheaper_option():
    assert allocate([[1.0, 1.0]], [[5.0, 3.0]], 10.0) == [1]
    assert allocate([], [], 1.0) == []

import numpy as np
import pytest

from pyruntime.numerics import hashed_positions
from pyruntime.quantize.schemes.hashed import Hashed
from pyruntime.recover import hashing


def problem(rng, groups=2, rows=12, k=24):
    """Inputs that stand in for one another, and weights with some zeros."""
    mixing = rng.normal(size=(groups, k, k // 4))
    hessian = mixing @ mixing.transpose(0, 2, 1) + 0.1 * np.eye(k)
    target = rng.normal(size=(groups, rows, k)) * (rng.random((groups, rows, k)) < 0.8)
    return hessian, target, Hashed(0.5).fit(target.reshape(-1, 1, k).astype(np.float32))


def weights(grid, shape):
    return (grid.table * grid.scales.astype(np.float64)[:, None]).reshape(shape)


def loss(hessian, target, weight):
    lost = weight - target
    return float(((lost @ hessian) * lost).sum())


def test_the_vector_is_the_one_of_least_error():
    hessian, target, grid = problem(np.random.default_rng(0))
    found = hashing.fit_vector(hessian, target, grid)
    index, sign = (part.reshape(grid.table.shape) for part in hashed_positions(grid.table.size, grid.size))
    factor = np.where(target.reshape(index.shape) != 0, sign * grid.scales.astype(float)[:, None], 0.0)
    columns = np.stack([(factor * (index == i)).reshape(target.shape) for i in range(grid.size)])
    gram = np.einsum("igok,gkl,jgol->ij", columns, hessian, columns, optimize=True)
    right = np.einsum("igok,gkl,gol->i", columns, hessian, target, optimize=True)
    best = np.linalg.lstsq(gram, right, rcond=None)[0]
    least = loss(hessian, target, np.tensordot(best, columns, 1))
    error = loss(hessian, target, weights(found, target.shape))
    assert least <= error < 1.1 * least
    assert error < 0.5 * loss(hessian, target, weights(grid, target.shape))


@pytest.mark.parametrize("hessian", [0.0, 1.0])
def test_the_form_stays(hessian):
    rng = np.random.default_rng(1)
    _, target, grid = problem(rng)
    damped = hessian * np.eye(24) + 1e-30 * np.eye(24)
    found = hashing.fit_vector(np.stack([damped] * 2), target, grid)
    index, sign = (part.reshape(grid.table.shape) for part in hashed_positions(grid.table.size, grid.size))
    assert not found.table[target.reshape(index.shape) == 0].any()
    shared = np.where(target.reshape(index.shape) != 0, sign * found.table, 0)
    for i in range(grid.size):
        assert len(set(shared[(index == i) & (target.reshape(index.shape) != 0)].tolist())) <= 1
    np.testing.assert_array_equal(found.scales, grid.scales)

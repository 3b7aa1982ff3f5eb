import numpy as np
import pytest
from helpers import layer_of
from toolmodels import make_run

from pyruntime.columns import choose, mean_input, sample_outputs, sample_rows

CASES = {
    "plain": {"kernel": (3, 3)},
    "padded, strided": {"kernel": (3, 3), "pads": [1, 0, 1, 2], "strides": [2, 1]},
    "dilated": {"kernel": (2, 3), "dilations": [2, 1], "pads": [1, 1, 1, 1]},
    "groups": {"kernel": (3, 3), "group": 3, "pads": [1, 1, 1, 1]},
    "depthwise": {"kernel": (3, 3), "group": 6, "pads": [1, 1, 1, 1]},
    "one dimension": {"kernel": (3,), "pads": [1, 1], "strides": [2]},
    "dense": {},
}


@pytest.mark.parametrize("name", CASES)
def test_rows_times_weights_are_the_layer(name):
    rng = np.random.default_rng(0)
    model, layer, x = layer_of(rng, **CASES[name])
    y = make_run(model)({"x": x})["y"]
    rows = sample_rows(layer, x, 10**9, rng)
    matrix = layer.array().reshape(layer.groups, -1, rows.shape[-1])
    products = np.einsum("gpk,gok->pgo", rows, matrix).reshape(rows.shape[1], -1)
    positions = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
    np.testing.assert_allclose(products, positions, atol=1e-4)
    outputs = sample_outputs(layer, y, 30, np.random.default_rng(1))
    some = sample_rows(layer, x, 30, np.random.default_rng(1))
    np.testing.assert_allclose(np.einsum("gpk,gok->gpo", some, matrix), outputs, atol=1e-4)
    mean = mean_input(layer, x).reshape(layer.groups, -1)
    np.testing.assert_allclose(mean, rows.mean(axis=1, dtype=np.float64), atol=1e-5)


def test_the_same_seed_chooses_the_same_rows():
    rng = np.random.default_rng(1)
    _, layer, x = layer_of(rng, kernel=(3, 3))
    first = sample_rows(layer, x, 20, np.random.default_rng(5))
    assert first.shape == (1, 20, 54)
    np.testing.assert_array_equal(first, sample_rows(layer, x, 20, np.random.default_rng(5)))


def test_choose():
    rng = np.random.default_rng(0)
    assert choose(3, 5, rng).tolist() == [0, 1, 2]
    some = choose(100, 5, rng)
    assert len(set(some)) == 5
    assert (np.diff(some) > 0).all()

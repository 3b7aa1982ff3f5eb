import numpy as np

from pyruntime.numerics import hashed_positions
from pyruntime.quantize.schemes.hashed import Hashed


def mixed(position):
    """The mixing function on whole numbers."""
    x = position * 0x9E3779B97F4A7C15 % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ x >> 33) * factor % 2**64
    return x ^ x >> 33


def test_positions_are_spread_evenly_and_never_change():
    index, sign = hashed_positions(100_000, 50)
    counts = np.bincount(index, minlength=50)
    assert counts.min() > 1800 and counts.max() < 2200
    assert abs(sign.mean()) < 0.02 and set(np.unique(sign)) == {-1, 1}
    first = hashed_positions(4, 1000)
    np.testing.assert_array_equal(first[0], hashed_positions(9, 1000)[0][:4])
    expected = [mixed(position) for position in range(1, 5)]
    assert first[0].tolist() == [(x >> 32) * 1000 >> 32 for x in expected]
    assert first[1].tolist() == [1 - 2 * (x & 1) for x in expected]


def test_a_hashed_weight_is_found_again():
    """Weights that are an exact hashed expansion have no error beyond the int8 grid of the vector."""
    rng = np.random.default_rng(0)
    index, sign = hashed_positions(12 * 40, 240)
    vector = rng.normal(size=240)
    weight = (sign * vector[index]).reshape(12, 1, 40).astype(np.float32)
    grid = Hashed(0.5, "tensor").fit(weight)
    error = np.abs(grid.round(weight[:, 0]) - weight[:, 0])
    assert error.max() <= 0.5001 * grid.scales[0]


def test_sharing_holds_across_the_layer():
    weight = np.random.default_rng(1).normal(size=(12, 1, 40)).astype(np.float32)
    codes = Hashed(0.25).fit(weight).codes(weight[:, 0]).astype(int).reshape(-1)
    index, sign = hashed_positions(480, 120)
    for entry in range(120):
        assert np.unique((codes * sign)[index == entry]).size <= 1

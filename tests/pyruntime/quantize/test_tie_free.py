"""No exact value lies near the middle between two integers, and scales hardly move for it."""

import numpy as np
import pytest

from pyruntime.quantize import tie_free


def odd_denominator(fraction, limit=100_000):
    """The smallest odd D for which `fraction * D` is an integer, up to float64 rounding."""
    for denominator in range(1, limit, 2):
        if abs(fraction * denominator - round(fraction * denominator)) < 1e-9 * denominator:
            return denominator
    raise AssertionError(f"{fraction} has no odd denominator below {limit}")


def test_fractions_are_near_and_have_odd_denominators():
    rng = np.random.default_rng(0)
    multipliers = np.exp(rng.uniform(np.log(3e-4), np.log(0.1), 200))
    limits = np.exp(rng.uniform(np.log(300), np.log(4000), 200))
    moved = tie_free.odd_fraction(multipliers, limits)
    assert np.abs(moved / multipliers - 1).max() < 0.02
    assert np.median(np.abs(moved / multipliers - 1)) < 5e-4
    for fraction, wanted, limit in zip(moved, multipliers, limits, strict=True):
        assert odd_denominator(fraction) <= max(limit, 1 / wanted + 1)


def test_values_stay_clear_of_ties():
    moved = float(tie_free.odd_fraction(np.array([0.0123]), np.array([401.0]))[0])
    values = np.arange(-20_000, 20_000) * moved
    distance = np.abs(values - np.floor(values) - 0.5).min()
    assert distance >= 1 / (2 * 401) - 1e-9
    plain = np.arange(-20_000, 20_000) * 0.0123
    assert np.abs(plain - np.floor(plain) - 0.5).min() < 1e-4  # what the scale would do if it stayed


@pytest.mark.parametrize("multiplier", [1e-12, 1e-5, 0.5, 1.0, 1.5, 40.2, 1e6])
def test_extreme_multipliers_stay_close(multiplier):
    moved = tie_free.odd_fraction(np.array([multiplier]), np.array([1000.0]))[0]
    assert moved == pytest.approx(multiplier, rel=0.01)


def test_larger_sums_get_smaller_denominators():
    limits = tie_free.denominators(np.array([0.0, 100.0, 1000.0, 1e4, 1e9]))
    assert (np.diff(limits) <= 0).all()
    assert limits[0] == tie_free.LARGEST_DENOMINATOR
    assert limits[-1] == 1.0
    assert 1 / (2 * limits[2]) > 2.0**-24 * 1000


def test_scales_of_sums_share_a_unit():
    scales = [np.float32(s) for s in (0.05, 0.031, 0.0402)]
    moved = tie_free.odd_multiples(scales)
    unit = max(scales) / tie_free.LARGEST_MULTIPLE
    for before, after in zip(scales, moved, strict=True):
        multiple = float(after) / float(unit)
        assert round(multiple) % 2 == 1
        assert multiple == pytest.approx(round(multiple), abs=1e-3)
        assert after == pytest.approx(before, rel=2e-3)


def test_a_scale_far_below_the_largest_keeps_its_size_within_a_unit():
    small = np.float32(1e-9)
    large, moved = tie_free.odd_multiples([np.float32(1.0), small])
    assert large == 1.0
    assert moved == np.float32(1 / tie_free.LARGEST_MULTIPLE)

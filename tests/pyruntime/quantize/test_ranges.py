import numpy as np
import pytest

from pyruntime.quantize.ranges import Range, activation_params


def test_a_range_always_holds_zero():
    assert Range(2.0, 3.0) == Range(0.0, 3.0)
    assert Range(-3.0, -2.0) == Range(-3.0, 0.0)
    assert Range(0, 1).union(Range(-1, 0.5)) == Range(-1, 1)


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 0, 0), (0, 255, 0), (-255, 0, 255), (-128, 127, 128), (-1, 3, 64)]
)
def test_zero_is_exact(low, high, zero_point):
    scale, found = activation_params(Range(low, high))
    assert found == zero_point
    assert scale.dtype == np.float32
    assert scale > 0


@pytest.mark.parametrize("high", [1e-45, 1e-40, 1e-20, 1e20, 3.4e38])
def test_scales_are_finite_and_positive(high):
    for low in (0.0, -high):
        scale, _ = activation_params(Range(low, high))
        assert np.isfinite(scale) and scale > 0

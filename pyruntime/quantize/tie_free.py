"""Scales without rounding ties, so that another runtime rounds every value to the same integer.

Our kernels scale an exact integer sum and round once. A runtime that follows the float definition of the
same QDQ network adds dequantized products in float32, which is off by some 1e-5 of an output step, and lands
on the other side wherever the exact value lies closer than that to the middle between two integers. With
ordinary scales such values are common: one in 10,000, and 50 layers spread each of them over the network.
Here the scales are moved, by a fraction of a percent, so that every exact value is a multiple of `1 / D`
steps with D odd: its distance to a middle is then at least `1 / (2 D)`, and D is kept small enough for that
to exceed the float error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

# Scales of tensors that are summed are odd multiples, up to this, of a common unit: two products and a sum
# are off by 1e-4 steps at most, and 1 / (2 * 2047) is 2.4e-4.
LARGEST_MULTIPLE = 2047
LARGEST_DENOMINATOR = 4095
NUMERATORS = 64
# Share of half a step over the denominator that float32 errors may take.
SAFETY = 1 / 4


def denominators(magnitude: npt.NDArray[Any]) -> Float:
    """Largest denominator for channels whose sums of absolute products reach `magnitude` output steps.

    A float32 sum of K products is off by about `2^-24 * magnitude`: K roundings that add up like
    sqrt(K), each relative to a partial sum of magnitude / sqrt(K).
    """
    limit = SAFETY / (2.0**-24 * np.maximum(magnitude.astype(np.float64), 1.0)) / 2
    return np.clip(limit, 1.0, LARGEST_DENOMINATOR)


def odd_fraction(multipliers: npt.NDArray[Any], limits: npt.NDArray[Any]) -> Float:
    """The nearest `M / D` with D odd, D at most the limit, and M at most 64 or D = 1; elementwise.

    Where even `1 / D` needs a denominator above the limit, M is 1 and D as large as it takes.

    Args:
        multipliers: positive numbers.
        limits: largest denominators, same shape.
    """
    wanted = multipliers.astype(np.float64)[..., None]
    small = np.broadcast_to(np.arange(1.0, NUMERATORS + 1), (*multipliers.shape, NUMERATORS))
    numerators = np.concatenate([small, np.maximum(np.rint(wanted), 1.0)], axis=-1)
    divisors = np.maximum(2 * np.rint((numerators / wanted - 1) / 2) + 1, 1.0)
    fractions = numerators / divisors
    errors = np.abs(fractions - wanted) / wanted
    allowed = (divisors <= np.asarray(limits, np.float64)[..., None]) | (numerators == 1)
    best = np.argmin(np.where(allowed, errors, np.inf), axis=-1)
    return np.take_along_axis(fractions, best[..., None], axis=-1)[..., 0]


def odd_multiples(scales: Sequence[np.float32]) -> list[np.float32]:
    """The scales moved to odd multiples of a common unit, `max / 2047`."""
    unit = float(max(scales)) / LARGEST_MULTIPLE
    return [np.float32((2 * np.rint((float(scale) / unit - 1) / 2) + 1) * unit) for scale in scales]

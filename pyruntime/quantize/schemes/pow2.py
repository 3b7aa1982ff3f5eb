"""`pow2`: int8 weights whose scales are powers of two, so that a requantization is a rounding shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyruntime.quantize.schemes.base import (
    S8_MAX,
    Adjust,
    Array,
    adjusted,
    as_importance,
    as_matrix,
    full_scales,
    per_channel_error,
)
from pyruntime.quantize.schemes.integer import RangeGrid
from pyruntime.quantize.schemes.words import PER, Options, no_value


@dataclass(frozen=True)
class PowerOfTwo:
    """`per`: "channel" or "tensor", what shares a scale."""

    per: str = "channel"

    bits = 8
    integer = True
    movable_scales = False

    @property
    def label(self) -> str:
        return f"pow2 int8 per_{self.per}"

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> RangeGrid:
        matrix = as_matrix(weight)
        wide = as_importance(importance, matrix)
        safe = round_up(full_scales(matrix, self.per).astype(np.float64))
        # Half the safe scale clips the largest weights and is twice as fine for the others.
        errors = []
        for scales in (safe, safe / 2):
            rounded = np.clip(np.rint(matrix / scales[:, None]), -S8_MAX, S8_MAX) * scales[:, None]
            errors.append(per_channel_error(rounded - matrix, wide, self.per))
        scales = np.where(errors[1] < errors[0], safe / 2, safe)
        used = round_up(adjusted(scales, adjust).astype(np.float64)).astype(np.float32)
        top = np.full(len(matrix), S8_MAX)
        return RangeGrid(used, -top, top)


def round_up(scales: Array) -> Array:
    """The least power of two that is not below each scale (> 0)."""
    mantissa, exponent = np.frexp(scales)
    powers: Array = np.ldexp(1.0, exponent - (mantissa == 0.5))
    return powers


def parse(name: str, value: str | None, options: Options) -> PowerOfTwo:
    """`pow2` with `per=channel|tensor`."""
    no_value(value, options.what, name)
    per = options.choice("per", PER, "channel")
    options.finish(["per"])
    return PowerOfTwo(per)

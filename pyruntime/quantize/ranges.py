"""Ranges of real values and the scales that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

U8_STEPS = 255
S8_MAX = 127
S8_SHIFT = 128  # from u8 to s8, of a tensor and its zero point; what they stand for stays
# Below this a scale makes products of two scales subnormal; what is smaller counts as zero.
SMALLEST_SCALE = 1e-18


@dataclass(frozen=True)
class Range:
    """Interval of a tensor's real values. It always holds 0, so that 0 has an exact quantized form."""

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", min(float(self.low), 0.0))
        object.__setattr__(self, "high", max(float(self.high), 0.0))

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def activation_params(values: Range) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of u8 with `real = (q - zero_point) * scale`.

    The scale is finite and > 0 for every range (an all-zero tensor gets that of [0, 1]); real 0 is exactly
    `zero_point`.
    """
    span = values.high - values.low
    if span / U8_STEPS < SMALLEST_SCALE:
        return np.float32(1.0), np.uint8(0)
    scale = np.float32(span / U8_STEPS)
    return scale, zero_point_for(values, scale)


def zero_point_for(values: Range, scale: np.float32) -> np.uint8:
    """The u8 that stands for real 0 when the u8 0 stands for about `values.low`."""
    zero_point: np.uint8 = np.uint8(min(max(round(-values.low / float(scale)), 0), U8_STEPS))
    return zero_point


def quantize_u8(values: npt.NDArray[Any], scale: np.float32, zero_point: np.uint8) -> npt.NDArray[np.uint8]:
    """`clamp(rne(x / scale) + zero_point, 0, 255)`, the division in float32 as the runtime does it."""
    steps = np.rint(values.astype(np.float32) / scale)
    quantized: npt.NDArray[np.uint8] = np.clip(steps + np.float32(zero_point), 0, U8_STEPS).astype(np.uint8)
    return quantized


def to_s8(quantized: npt.NDArray[np.uint8] | np.uint8) -> npt.NDArray[np.int8]:
    """u8 integers or zero points as s8 ones that stand for the same real values."""
    moved: npt.NDArray[np.int8] = (np.asarray(quantized, np.int16) - S8_SHIFT).astype(np.int8)
    return moved

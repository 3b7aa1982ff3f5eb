"""`fp16`, `bf16`, `fp8_e4m3`, `fp8_e5m2` and any `fp:E.M`: weights as small floating-point numbers.

Formats of up to 8 bits have a scale for each output channel. Scales have four significant bits, so that the
product of a number and its scale is exact in float32. The weights are decoded when a file is loaded and the
layer runs in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyruntime.errors import OptionError
from pyruntime.minifloat import Format, find_format
from pyruntime.quantize.schemes.base import (
    ALL,
    Adjust,
    Array,
    Columns,
    as_importance,
    as_matrix,
    largest,
    per_channel_error,
)
from pyruntime.quantize.schemes.words import Options, no_value

SCALED_BITS = 8


@dataclass(frozen=True)
class FloatGrid:
    """Numbers of the format `name` times a scale per channel, float64 `[out]`."""

    name: str
    scales: npt.NDArray[np.float64]

    @property
    def fixed(self) -> bool:
        return False

    @property
    def storage(self) -> Mapping[str, int | str]:
        return {"float": self.name}

    def round(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.float32]:
        scales = self.scales[:, None]
        return (find_format(self.name).round(values / scales) * scales).astype(np.float32)


@dataclass(frozen=True)
class SmallFloat:
    """A format by name (see `minifloat.find_format`)."""

    name: str

    integer = False
    movable_scales = False

    @property
    def format(self) -> Format:
        return find_format(self.name)

    @property
    def bits(self) -> float:
        return self.format.bits

    @property
    def label(self) -> str:
        return self.name + (" per_channel" if self.format.bits <= SCALED_BITS else "")

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> FloatGrid:
        matrix, form = as_matrix(weight), self.format
        scales = np.ones(len(matrix))
        if form.bits > SCALED_BITS:
            return FloatGrid(self.name, scales)
        wide = as_importance(importance, matrix)
        top = largest(matrix, "channel") / form.largest
        _, power = np.frexp(np.where(top > 0, top, 1.0))
        best = np.full(len(matrix), np.inf)
        for octave in (0, -1, -2):
            for eighths in range(8, 16):
                tried = np.ldexp(eighths / 8, power + octave)
                error = form.round(matrix / tried[:, None]) * tried[:, None] - matrix
                found = per_channel_error(error, wide, "channel")
                better = found < best * (1 - 1e-9)
                scales, best = np.where(better, tried, scales), np.where(better, found, best)
        return FloatGrid(self.name, scales)


def parse(name: str, value: str | None, options: Options) -> SmallFloat:
    """`fp16`, `bf16`, `fp8_e4m3`, `fp8_e5m2`, `fp:E.M`."""
    no_value(value, options.what, name)
    try:
        find_format(name)
    except ValueError as error:
        raise OptionError(f"{options.what}: {error}") from None
    options.finish([])
    return SmallFloat(name)

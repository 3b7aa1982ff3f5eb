"""`int2` to `int8`: equally spaced levels per output channel or tensor, with a clip that the squared error
chooses.

Asymmetric levels (`symmetric=no`) cost nothing when they run: the zero point is subtracted beforehand, and
`code - zero_point` of up to 7 bits fits the signed 8 bits of the kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyruntime.errors import OptionError
from pyruntime.quantize.schemes.base import (
    ALL,
    S8_MAX,
    Adjust,
    Array,
    Columns,
    IntegerGrid,
    adjusted,
    as_importance,
    as_matrix,
    full_scales,
    per_channel_error,
)
from pyruntime.quantize.schemes.words import PER, Options, no_value

YES_NO = ("yes", "no")
CLIPS = np.linspace(1.0, 0.2, 41)


@dataclass(frozen=True)
class RangeGrid(IntegerGrid):
    """All integers of an interval per channel; `low <= 0 <= high`, int `[out]`."""

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]

    def codes(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.int8]:
        return np.clip(np.rint(self.steps(values)), self.low[:, None], self.high[:, None]).astype(np.int8)


@dataclass(frozen=True)
class Integer:
    """Levels of `bits` bits.

    Attributes:
        per: "channel" or "tensor", what shares a scale.
        symmetric: levels `-(2^(bits-1) - 1) .. 2^(bits-1) - 1`; else `2^bits` levels that hold 0.
        clip: search the clip; else the largest weight is the largest level.
    """

    bits: int = 8
    per: str = "channel"
    symmetric: bool = True
    clip: bool = False

    integer = True
    movable_scales = True

    @property
    def label(self) -> str:
        return f"int{self.bits} per_{self.per}" + ("" if self.symmetric else " asymmetric")

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> RangeGrid:
        matrix = as_matrix(weight)
        wide = as_importance(importance, matrix)
        candidates = self._symmetric(matrix) if self.symmetric else self._asymmetric(matrix)
        scales, low, high = candidates[0]
        if len(candidates) > 1:
            best = np.full(len(matrix), np.inf)
            for found in candidates:
                error = per_channel_error(_error(matrix, *found), wide, self.per)
                better = error < best
                best = np.where(better, error, best)
                scales = np.where(better, found[0], scales)
                low, high = np.where(better, found[1], low), np.where(better, found[2], high)
        return RangeGrid(adjusted(scales, adjust), low.astype(np.int64), high.astype(np.int64))

    def _symmetric(self, matrix: Array) -> list[tuple[Array, Array, Array]]:
        """Candidates (scales, low, high), `[out]` each."""
        top = 2 ** (self.bits - 1) - 1
        scales = full_scales(matrix, self.per, top).astype(np.float64)
        high = np.full(len(matrix), top)
        return [(scales * clip, -high, high) for clip in self._clips()]

    def _asymmetric(self, matrix: Array) -> list[tuple[Array, Array, Array]]:
        steps = 2**self.bits - 1
        low, high = np.minimum(matrix.min(axis=1), 0), np.maximum(matrix.max(axis=1), 0)
        if self.per == "tensor":
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        dead = high - low <= 0
        candidates = []
        for clip in self._clips():
            scales = np.where(dead, full_scales(matrix, self.per, steps), (high - low) * clip / steps)
            first = np.clip(np.rint(low * clip / scales), -steps, 0)
            candidates.append((scales, first, first + steps))
        return candidates

    def _clips(self) -> list[float]:
        return list(CLIPS) if self.clip else [1.0]


def _error(matrix: Array, scales: Array, low: Array, high: Array) -> Array:
    single = scales.astype(np.float32).astype(np.float64)[:, None]
    return np.clip(np.rint(matrix / single), low[:, None], high[:, None]) * single - matrix


@dataclass(frozen=True)
class GroupGrid(IntegerGrid):
    """Levels `-top .. top` times a multiplier per group of columns (`multipliers` int64 `[out, groups]`)."""

    top: int
    group: int
    multipliers: npt.NDArray[np.int64]

    @property
    def storage(self) -> Mapping[str, int | str]:
        return {"group": self.group}

    def codes(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.int8]:
        count = self.multipliers.shape[1] * self.group
        multiplier = self.multipliers[:, np.arange(count)[columns][: values.shape[1]] // self.group]
        small = np.clip(np.rint(self.steps(values) / multiplier), -self.top, self.top)
        return (small * multiplier).astype(np.int8)


@dataclass(frozen=True)
class Group:
    """Levels of `bits` bits, with a scale for every `group` consecutive columns.

    The scale of a group is that of its channel times a small integer (two-level scales, Dai et al. 2021,
    VS-Quant), and the product of level and multiplier fits signed 8 bits: so the integer kernels run it
    exactly. Columns run over taps, then input channels.
    """

    bits: int
    group: int

    integer = True
    movable_scales = True

    @property
    def top(self) -> int:
        return int(2 ** (self.bits - 1)) - 1

    @property
    def largest_multiplier(self) -> int:
        return min(16, S8_MAX // self.top)

    @property
    def label(self) -> str:
        return f"int{self.bits} group={self.group}"

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> GroupGrid:
        matrix = as_matrix(weight)
        wide = np.broadcast_to(as_importance(importance, matrix), matrix.shape)
        finest = full_scales(matrix, "channel", self.top).astype(np.float64) / self.largest_multiplier
        best = np.full(len(matrix), np.inf)
        scales = finest
        for clip in CLIPS[:21:4]:
            error = self._multipliers(matrix, wide, finest * clip)[1].sum(axis=1)
            scales, best = np.where(error < best, finest * clip, scales), np.minimum(error, best)
        used = adjusted(scales, adjust)
        multipliers, _ = self._multipliers(matrix, wide, used.astype(np.float64))
        return GroupGrid(used, self.top, self.group, multipliers)

    def _multipliers(self, matrix: Array, importance: Array, scales: Array) -> tuple[Array, Array]:
        """For each group the multiplier of least squared error, and that error; `[out, groups]`."""
        rows, count = matrix.shape
        padding = ((0, 0), (0, -count % self.group))
        steps = np.pad(matrix / scales[:, None], padding).reshape(rows, -1, self.group)
        weights = np.pad(importance, padding).reshape(steps.shape)
        best = np.full(steps.shape[:2], np.inf)
        multipliers = np.ones(steps.shape[:2], np.int64)
        for multiplier in range(1, self.largest_multiplier + 1):
            rounded = np.clip(np.rint(steps / multiplier), -self.top, self.top) * multiplier
            error = (np.square(rounded - steps) * weights).sum(axis=2)
            multipliers = np.where(error < best, multiplier, multipliers)
            best = np.minimum(error, best)
        return multipliers, best * np.square(scales)[:, None]


def parse(name: str, value: str | None, options: Options) -> Integer | Group:
    """`int2` .. `int8` with `per=channel|tensor`, `symmetric=yes|no`, `clip=mse|none`, or `group=N`."""
    no_value(value, options.what, name)
    bits = int(name.removeprefix("int"))
    group = options.whole("group", 2, 1 << 16)
    if group is not None:
        if bits == 8:
            raise OptionError(f"{options.what}: group=N needs 2 to 7 bits; the int8 kernels have one scale")
        options.finish(["group"])
        return Group(bits, group)
    per = options.choice("per", PER, "channel")
    symmetric = options.choice("symmetric", YES_NO, "yes") == "yes"
    if bits == 8 and not symmetric:
        raise OptionError(f"{options.what}: symmetric=no needs 2 to 7 bits; int8 weights are symmetric")
    clip = options.choice("clip", ("mse", "none"), "none" if bits == 8 else "mse") == "mse"
    options.finish(["group", "per", "symmetric", "clip"])
    return Integer(bits, per, symmetric, clip)

"""`hashed=RATIO`: weights drawn by a hash, with a sign, from a real vector much smaller than the layer
(HashedNets, Chen et al. 2015).

    w[o, k] = scale[o] * sign(o, k) * vector[index(o, k)]

The vector holds `RATIO` values per weight that is not zero and lies on the int8 grid, so the int8 kernels run
the layer exactly and only the vector is stored. Given trained weights, the vector of least squared error is
the mean of the weights that share each entry; `recover.hashing` makes a far better one from data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.numerics import hashed_positions
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
)
from pyruntime.quantize.schemes.words import PER, Options

# The vector fitted to data has larger entries than the means.
HEADROOM = 2.0


@dataclass(frozen=True)
class FixedGrid(IntegerGrid):
    """One code for each weight, int8 `[out, taps * in]`, drawn from `size` values."""

    table: npt.NDArray[np.int8]
    size: int

    @property
    def fixed(self) -> bool:
        return True

    @property
    def storage(self) -> Mapping[str, int | str]:
        return {"hashed": self.size}

    def codes(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.int8]:
        return self.table[:, columns]


@dataclass(frozen=True)
class Hashed:
    """`ratio`: entries of the vector per weight; `per`: what shares a scale."""

    ratio: float
    per: str = "channel"

    integer = True
    movable_scales = True

    @property
    def bits(self) -> float:
        return 8 * self.ratio

    @property
    def label(self) -> str:
        return f"hashed={self.ratio:g} per_{self.per}"

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> FixedGrid:
        matrix = as_matrix(weight)
        kept = matrix != 0
        size = vector_size(self.ratio, int(kept.sum()))
        index, sign = hashed_positions(matrix.size, size)
        index, sign = index.reshape(matrix.shape), sign.reshape(matrix.shape)
        # The mean of several weights is smaller than the largest of them; data will make it larger.
        scales = self._spread(matrix)
        means = _means(matrix / scales[:, None], scales, importance, index, sign, kept)
        top = HEADROOM * float(np.abs(means).max(initial=0.0))
        scales = adjusted(scales * (top / S8_MAX if top > 0 else 1.0), adjust).astype(np.float64)
        means = _means(matrix / scales[:, None], scales, importance, index, sign, kept)
        vector = np.clip(np.rint(means), -S8_MAX, S8_MAX)
        codes = np.where(kept, sign * vector[index], 0).astype(np.int8)
        return FixedGrid(scales.astype(np.float32), codes, size)

    def _spread(self, matrix: Array) -> npt.NDArray[np.float64]:
        """What makes channels alike before they share values: the root mean square of their weights."""
        if self.per == "tensor":
            return full_scales(matrix, "tensor").astype(np.float64)
        count = np.maximum((matrix != 0).sum(axis=1), 1)
        root: npt.NDArray[np.float64] = np.sqrt(np.square(matrix).sum(axis=1) / count)
        return np.where(root > 0, root, np.min(root[root > 0], initial=1.0))


def vector_size(ratio: float, kept: int) -> int:
    """Entries of the vector for that many weights that are not zero."""
    return max(1, round(ratio * kept))


def _means(
    values: Array, scales: Array, importance: Array | None, index: Array, sign: Array, kept: Array
) -> npt.NDArray[np.float64]:
    """The vector of least weighted squared error."""
    mass = np.where(kept, np.square(scales)[:, None] * as_importance(importance, values), 0.0)
    size = int(index.max(initial=0)) + 1
    total = np.bincount(index.reshape(-1), mass.reshape(-1), size)
    signed = np.bincount(index.reshape(-1), (mass * sign * values).reshape(-1), size)
    means: npt.NDArray[np.float64] = np.divide(signed, total, out=np.zeros(size), where=total > 0)
    return means


def parse(name: str, value: str | None, options: Options) -> Hashed:
    """`hashed=RATIO` with `per=channel|tensor`."""
    ratio = words.fraction(value or "", f"{options.what}: the ratio in 'hashed=RATIO'")
    if ratio == 0.0:
        raise OptionError(f"{options.what}: the ratio in 'hashed=RATIO' must be above 0")
    per = options.choice("per", PER, "channel")
    options.finish(["per"])
    return Hashed(ratio, per)
